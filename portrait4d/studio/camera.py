"""Pictures of a camera, as a page sends them."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flame.errors import InputError
from portrait4d.studio.limits import CAMERA_PIXELS


def decode_camera(jpeg: bytes) -> NDArray[np.uint8]:
    """Decodes a picture of the camera to uint8 `[H, W, 3]` RGB; its size is looked at before any pixel.

    Raises:
        InputError: it is no JPEG, damaged or too large.
    """
    try:
        with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as picture:
            if picture.width * picture.height > CAMERA_PIXELS:
                raise InputError(f"expected a camera of at most 1920 x 1080, got {picture.width} x {picture.height}")
            return np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError("a picture of the camera is damaged") from error
