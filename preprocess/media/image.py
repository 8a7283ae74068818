"""Reads picture files as uint8 RGB, writes them, and converts uint8 to the tensors used inside.

This is the only place where `uint8 [H, W, 3]` and `float32 [B, 3, H, W]` in [-1, 1] are converted.
"""

import io
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from flame.errors import InputError
from preprocess.files.atomic import atomic_path
from preprocess.files.file_check import check_file
from preprocess.media.mark import png_marks

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

MIN_SIDE = 32
"""Smallest accepted side of a picture, in pixels."""
MAX_PIXELS = 100_000_000
"""Pictures with more pixels are refused from their header, before anything is decoded."""
NEUTRAL_GREY = 128
"""The grey level that shows through transparent pixels."""


def read_image(path: str | Path) -> np.ndarray:
    """Reads a picture as it is meant to be seen: `uint8 [H, W, 3]` sRGB, upright.

    The format is recognised by content, not by name. Orientation tags and colour profiles are applied, 16-bit and
    palette pictures are converted, and transparent pixels are replaced by neutral grey. An animated file gives its
    first frame.

    Raises:
        InputError: the file is missing, not a picture, damaged, too small or too large.
    """
    return read_image_alpha(path)[0]


def read_image_alpha(path: str | Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Reads a picture and its transparency.

    Returns:
        The picture `uint8 [H, W, 3]`, blended over neutral grey, and alpha `float32 [H, W]` in [0, 1],
        or None when the file has no transparency or all of it is opaque.
    """
    path = Path(path)
    with open_picture(path) as picture:
        return decode_picture(picture, str(path))


def decode_picture(picture: Image.Image, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Decodes an opened picture; see `read_image_alpha`.

    Args:
        picture: of any mode.
        name: what messages call it.

    Raises:
        InputError: it is damaged, or nothing of it is visible.
    """
    try:
        picture.load()
        return picture_to_rgb(picture)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, zlib.error, EOFError ...
        raise InputError(f"{name}: the picture is damaged or cut off ({_reason(error)}); use a whole file") from error


def open_picture(path: Path) -> Image.Image:
    """Opens a picture file and checks its header; pixels are not decoded yet."""
    check_file(path, "a picture")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is checked below
            picture = Image.open(path)
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: more than {MAX_PIXELS // 10**6} megapixels; scale the picture down first") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{path}: {_unknown_format(path)}; use a JPEG, PNG, WebP or TIFF picture") from error
    except Exception as error:  # a damaged header raises whatever the format's parser raises
        raise InputError(f"{path}: the picture is damaged or cut off ({_reason(error)}); use a whole file") from error
    try:
        check_size(picture.size, str(path))
    except InputError:
        picture.close()
        raise
    return picture


def check_size(size: tuple[int, int], name: str) -> None:
    """Refuses pictures of too many or too few pixels.

    Args:
        size: (width, height), as Pillow gives it.
        name: what the message calls the picture.

    Raises:
        InputError: it is too large or too small.
    """
    width, height = size
    if width * height > MAX_PIXELS:
        raise InputError(
            f"{name}: {width} x {height} pixels is more than {MAX_PIXELS // 10**6} megapixels; scale it down first"
        )
    if min(width, height) < MIN_SIDE:
        raise InputError(f"{name}: {width} x {height} pixels is too small; expected at least {MIN_SIDE} on each side")


def picture_to_rgb(picture: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    """Turns a decoded picture of any mode upright and into sRGB; see `read_image_alpha`."""
    picture = _upright(picture)
    if picture.mode.startswith("I") or picture.mode == "F":
        grey = _deep_grey_to_uint8(np.asarray(picture))
        return np.repeat(grey[:, :, None], 3, axis=2), None
    profile = picture.info.get("icc_profile")
    if "transparency" in picture.info or picture.mode in ("RGBA", "RGBa", "LA", "La", "PA"):
        picture = picture.convert("RGBA")
        alpha = picture.getchannel("A")
        if alpha.getextrema()[0] == 255:
            return np.array(_to_srgb(picture.convert("RGB"), profile)), None
        return _over_grey(_to_srgb(picture.convert("RGB"), profile), np.asarray(alpha))
    if picture.mode == "P":
        picture = picture.convert("RGB")
    return np.array(_to_srgb(picture, profile)), None


def to_tensor(image: np.ndarray) -> "torch.Tensor":
    """Converts `uint8 [H, W, 3]` or `[B, H, W, 3]` to `float32 [B, 3, H, W]`, 0 to -1 and 255 to 1."""
    if image.dtype != np.uint8 or image.ndim not in (3, 4) or image.shape[-1] != 3:
        raise ValueError(f"expected uint8 [H, W, 3] or [B, H, W, 3], got {image.dtype} {list(image.shape)}")
    import torch  # imported here, so that pictures and clips are read and written without torch

    batch = torch.from_numpy(np.ascontiguousarray(image)).reshape(-1, *image.shape[-3:])
    planes = batch.permute(0, 3, 1, 2).contiguous()  # moving bytes first is 5 times as fast as moving floats
    return planes.to(torch.float32).mul_(2 / 255).sub_(1)


def to_uint8(tensor: "torch.Tensor") -> np.ndarray:
    """Converts `[B, 3, H, W]` in [-1, 1], on any device, to `uint8 [B, H, W, 3]`: clamped, rounded to nearest."""
    if tensor.ndim != 4 or tensor.shape[1] != 3:
        raise ValueError(f"expected [B, 3, H, W], got {list(tensor.shape)}")
    import torch

    pixels = torch.empty(tensor.shape[0], *tensor.shape[2:], 3, dtype=torch.uint8, device=tensor.device)
    for image, picture in zip(tensor.detach(), pixels, strict=True):  # one at a time: less memory in between
        picture.copy_(image.permute(1, 2, 0).float().add(1).mul_(127.5).round_().clamp_(0, 255))
    return pixels.cpu().numpy()


def write_png(path: str | Path, image: np.ndarray, *, is_synthetic: bool = True) -> None:
    """Writes `uint8 [H, W]`, `[H, W, 3]` or `[H, W, 4]` as PNG; the file appears only when it is whole.

    It is marked as made by this program (see `preprocess.media.mark`), unless it is a photo as it was.
    """
    if image.dtype != np.uint8:
        raise ValueError(f"expected uint8, got {image.dtype}")
    with atomic_path(path) as temporary:
        marks = png_marks() if is_synthetic else None
        Image.fromarray(image).save(temporary, format="PNG", compress_level=3, pnginfo=marks)


def png_bytes(image: np.ndarray) -> bytes:
    """Encodes `uint8 [H, W]`, `[H, W, 3]` or `[H, W, 4]` as PNG."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG", compress_level=3)
    return file.getvalue()


def _upright(picture: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(picture)
    except Exception as error:  # a broken EXIF block must not cost a good picture
        logger.warning("the orientation tag cannot be read (%s): the picture is used as stored", _reason(error))
        return picture


def _deep_grey_to_uint8(values: np.ndarray) -> np.ndarray:
    """Converts grey pictures of more than 8 bits: integers are 16 bit, floats are in [0, 1] or [0, 255]."""
    if values.dtype.kind == "f":
        values = np.nan_to_num(values)
        scale = 255.0 if values.max(initial=0.0) <= 1.0 else 1.0
    else:
        scale = 1 / 257 if values.max(initial=0) > 255 or values.dtype == np.uint16 else 1.0
    return np.clip(np.rint(values * scale), 0, 255).astype(np.uint8)


def _to_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """Applies the colour profile (wide-gamut phone photos, printed CMYK); converts plainly where there is none."""
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if "srgb" not in ImageCms.getProfileDescription(source).lower():
                target = ImageCms.createProfile("sRGB")
                converted = ImageCms.profileToProfile(picture, source, target, outputMode="RGB")
                if converted is not None:
                    return converted
        except (ImageCms.PyCMSError, OSError, ValueError) as error:  # e.g. a CMYK profile on an RGB picture
            logger.warning("the colour profile cannot be applied (%s): ignored", _reason(error))
    return picture.convert("RGB")


def _over_grey(picture: Image.Image, alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if not alpha.any():
        raise InputError("the picture is fully transparent: nothing to see; use a picture with visible pixels")
    opacity = alpha.astype(np.float32) / 255
    blended = np.asarray(picture, np.float32) * opacity[:, :, None] + NEUTRAL_GREY * (1 - opacity[:, :, None])
    return np.rint(blended).astype(np.uint8), opacity


_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"heif", b"hevc", b"hevx", b"mif1", b"msf1"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_MOVIE_BRANDS = (b"iso", b"mp4", b"M4", b"qt", b"avc", b"3g", b"dash", b"f4")
_MOVIE = "expected a picture, got a video or sound file"
_UNKNOWN = "not a picture this program can read"


def _unknown_format(path: Path) -> str:
    """What a file is that Pillow does not recognise, by its first bytes (ISO/IEC 14496-12 `ftyp`, RIFF, EBML)."""
    with path.open("rb") as file:
        head = file.read(64)
    if head[:4] == b"RIFF":
        forms = {b"WEBP": "the WebP picture is damaged or cut off", b"AVI ": _MOVIE, b"WAVE": _MOVIE}
        return forms.get(head[8:12], _UNKNOWN)
    if head[:4] == b"\x1aE\xdf\xa3":  # Matroska, WebM
        return _MOVIE
    if head[4:8] != b"ftyp":
        return _UNKNOWN
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12], *(head[place : place + 4] for place in range(16, end, 4))}
    if brands & _AVIF_BRANDS:  # before HEIC: both may name mif1
        return "the AVIF picture is damaged, or this installation of Pillow does not read AVIF"
    if brands & _HEIC_BRANDS:
        return "HEIC pictures are not supported"
    return _MOVIE if head[8:12].startswith(_MOVIE_BRANDS) else _UNKNOWN


def _reason(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
