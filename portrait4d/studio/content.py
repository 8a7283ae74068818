"""What a file is by its first bytes; its name does not count."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

from flame.errors import InputError
from portrait4d.studio.limits import CLIP_PIXELS, MOTION_INFLATED_BYTES, PHOTO_PIXELS
from preprocess.media.image import open_picture
from preprocess.media.video import probe

Kind = Literal["photo", "clip", "motion"]
"""What a page sends: a photo or avatar file, a clip, a motion file."""

HEAD_BYTES = 16

_MEANT = {
    "photo": ("a picture (JPEG, PNG, WebP, TIFF, BMP) or avatar", ("jpg", "png", "webp", "tif", "bmp", "safetensors")),
    "clip": ("a video (MP4, MOV, MKV, WebM, AVI) or an animated picture", ("mp4", "mkv", "avi", "gif", "png", "webp")),
    "motion": ("a motion file (.npz)", ("npz",)),
}

_NAMES = {"npz": "a zip archive or motion file", "mp4": "a video", "mkv": "a video", "avi": "a video", "gif": "a GIF"}


def suffix_of(head: bytes, kind: Kind) -> str:
    """Returns the suffix, such as ".jpg", that the first bytes of a file deserve.

    Raises:
        InputError: they are of no file of the kind.
    """
    found = _sniffed(head)
    meant, allowed = _MEANT[kind]
    if found not in allowed:
        raise InputError(f"expected {meant}, got {_NAMES.get(found, 'something else')}: its name does not count")
    return f".{found}"


def _sniffed(head: bytes) -> str:
    for start, suffix in (
        (b"\xff\xd8\xff", "jpg"), (b"\x89PNG\r\n\x1a\n", "png"), (b"GIF8", "gif"), (b"BM", "bmp"), (b"II*\0", "tif"),
        (b"MM\0*", "tif"), (b"PK\x03\x04", "npz"), (b"\x1aE\xdf\xa3", "mkv"),
    ):  # fmt: skip
        if head.startswith(start):
            return suffix
    if head[:4] == b"RIFF":
        return {b"WEBP": "webp", b"AVI ": "avi"}.get(head[8:12], "")
    if head[4:8] == b"ftyp" and head[8:12] not in (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1"):
        return "mp4"
    is_avatar = len(head) > 8 and int.from_bytes(head[:8], "little") < 10_000_000 and head[8:9] == b"{"
    return "safetensors" if is_avatar else ""


def check_size(path: Path, kind: Kind) -> None:
    """Refuses what would be too large once it is unpacked; nothing is decoded.

    Raises:
        InputError: with the limit, or what is wrong with the file.
    """
    if kind == "motion":
        _check_archive(path)
    elif kind == "clip":
        info = probe(path)
        if info.height * info.width > CLIP_PIXELS:
            raise InputError(f"expected a clip of at most 4K, got {info.width} x {info.height}: scale it down")
    elif path.suffix != ".safetensors":
        with open_picture(path) as picture:
            width, height = picture.size
        if width * height > PHOTO_PIXELS:
            raise InputError(
                f"expected a photo of at most {PHOTO_PIXELS // 10**6} megapixels, got {width} x {height}: scale it down"
            )


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            inflated = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise InputError("the motion file is damaged or cut off: send a whole one") from error
    if inflated > MOTION_INFLATED_BYTES:
        raise InputError(
            f"expected a motion file of at most {MOTION_INFLATED_BYTES // 10**6} MB unpacked, got "
            f"{inflated // 10**6} MB: cut the clip"
        )
