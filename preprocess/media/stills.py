"""Reads clips that are not videos: animated GIF, WebP, PNG and AVIF files, folders of pictures, single pictures."""

import re
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from flame.errors import InputError
from preprocess.media.image import open_picture, picture_to_rgb, read_image
from preprocess.media.timing import Shown

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".avif"})
"""Suffixes of the files in a folder that count as its pictures; other files are skipped."""

_ANIMATED_FORMATS = frozenset({"GIF", "WEBP", "PNG", "AVIF"})  # MPO and TIFF files may hold several unrelated pictures
_UNSAID_SECONDS = 0.1  # browsers show frames with a duration of 10 ms or less this long
_SHORTEST_SECONDS = 0.0101


def is_picture(path: Path) -> bool:
    """Returns whether the file's content is a picture, perhaps a damaged one; its name does not matter."""
    try:
        with Image.open(path) as picture:
            return picture.format != "MPEG"  # Pillow knows only the header of MPEG-1 video
    except UnidentifiedImageError:
        return False
    except Exception:  # recognised, but damaged or huge: reading it as a picture gives the right message
        return True


def is_animation(path: Path) -> bool:
    """Returns whether a picture file holds several frames in time."""
    with open_picture(path) as picture:
        return picture.format in _ANIMATED_FORMATS and getattr(picture, "n_frames", 1) > 1


def show_animation(path: Path) -> Iterator[Shown]:
    """Yields the frames of an animated file, decoded one after the other."""
    seconds = 0.0
    with open_picture(path) as picture:
        for index in range(getattr(picture, "n_frames", 1)):
            try:
                picture.seek(index)
                picture.load()
            except EOFError:
                return
            except Exception as error:
                raise InputError(f"{path}: frame {index} of the animation is damaged; use a whole file") from error
            duration = float(picture.info.get("duration") or 0) / 1000
            if duration < _SHORTEST_SECONDS:
                duration = _UNSAID_SECONDS
            image = picture_to_rgb(picture.copy())[0]
            yield Shown(seconds, duration, partial(_same, image))
            seconds += duration


def list_pictures(folder: Path) -> list[Path]:
    """Returns the pictures in a folder, in natural order (`2.png` before `10.png`).

    Raises:
        InputError: there is no such folder, or it holds no picture.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected one with frames as .png, .jpg or .webp")
    paths = [path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES and path.name[0] != "."]
    if not paths:
        raise InputError(f"{folder}: no pictures in this folder; expected frames as .png, .jpg or .webp")
    return sorted(paths, key=_natural_key)


def show_folder(folder: Path, frame_rate: Fraction) -> Iterator[Shown]:
    """Yields the pictures of a folder as frames of a clip; all must have the size of the first."""
    shape: tuple[int, ...] | None = None

    def load(path: Path) -> np.ndarray:
        nonlocal shape
        image = read_image(path)
        shape = shape or image.shape
        if image.shape != shape:
            raise InputError(
                f"{path}: {image.shape[1]} x {image.shape[0]} pixels, but the first picture of the folder has "
                f"{shape[1]} x {shape[0]}; all frames of a folder must have one size"
            )
        return image

    for index, path in enumerate(list_pictures(folder)):
        yield Shown(float(index / frame_rate), float(1 / frame_rate), partial(load, path))


def show_picture(path: Path, frame_rate: Fraction) -> Iterator[Shown]:
    """Yields a single picture as a clip of one frame."""
    yield Shown(0.0, float(1 / frame_rate), partial(read_image, path))


def _same(image: np.ndarray) -> np.ndarray:
    return image


def _natural_key(path: Path) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", path.name.lower())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]
