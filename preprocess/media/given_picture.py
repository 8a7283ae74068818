"""Pictures as programs have them: a path, the bytes of a file, a picture of Pillow, an array."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flame.errors import InputError
from preprocess.media.image import check_size, decode_picture, read_image

if TYPE_CHECKING:
    from typing_extensions import TypeIs

Picture: TypeAlias = "str | Path | bytes | Image.Image | NDArray[np.uint8]"


def picture_of(given: Picture) -> NDArray[np.uint8]:
    """Returns a picture as it is meant to be seen: uint8 `[H, W, 3]` RGB.

    Args:
        given: a path; the bytes of a picture file; a picture of Pillow; or uint8 `[H, W, 3]` RGB, `[H, W, 4]` RGBA,
            `[H, W]` grey, which are taken as they are (OpenCV's pictures are BGR: turn them round before).

    Raises:
        InputError: it cannot be read, is of another kind, too small or too large.
    """
    if isinstance(given, str | Path):
        return read_image(given)
    if isinstance(given, bytes | bytearray | memoryview):
        return _of_bytes(bytes(given))
    if isinstance(given, Image.Image):
        return _of_pillow(given, "the picture")
    array = np.asarray(given)
    if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise InputError(
            f"expected a picture uint8 [H, W, 3] RGB, got {array.dtype} {list(array.shape)}: convert it, or give a path"
        )
    if array.ndim == 3 and array.shape[2] == 3:
        check_size((array.shape[1], array.shape[0]), "the picture")
        return array
    return _of_pillow(Image.fromarray(array), "the picture")


def is_one_picture(given: object) -> TypeIs[Picture]:
    """Whether what was given is one picture, and not several; an array of four dimensions holds several."""
    return isinstance(given, _KINDS) or (isinstance(given, np.ndarray) and given.ndim < 4)


_KINDS = (str, Path, bytes, bytearray, memoryview, Image.Image)


def _of_bytes(data: bytes) -> NDArray[np.uint8]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `check_size` has our own limit
            picture = Image.open(io.BytesIO(data))
    except Exception as error:  # a damaged header raises whatever the format's parser raises
        raise InputError(
            f"expected the bytes of a picture file, got {len(data)} bytes of something else: give a JPEG, PNG or WebP"
        ) from error
    with picture:
        return _of_pillow(picture, "the picture")


def _of_pillow(picture: Image.Image, name: str) -> NDArray[np.uint8]:
    check_size(picture.size, name)
    return decode_picture(picture, name)[0]
