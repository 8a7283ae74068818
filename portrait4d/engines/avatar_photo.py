"""The photo in an avatar file, which pasting back and panels need: a JPEG among the tensors, whatever the engine."""

import io
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from flame.errors import InputError
from portrait4d.engines.avatar_file import incomplete
from preprocess.files.atomic import atomic_path
from preprocess.media.image import MAX_PIXELS

_NAME = "photo"
_QUALITY = 95


def add_photo(path: Path, picture: NDArray[np.uint8]) -> None:
    """Adds a photo uint8 `[H, W, 3]` to an avatar file, which is written anew."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format="JPEG", quality=_QUALITY, subsampling=0)
    with safe_open(str(path), framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    tensors[_NAME] = torch.frombuffer(bytearray(stream.getvalue()), dtype=torch.uint8)
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(tensors, metadata=metadata))


def holds_photo(path: Path) -> bool:
    """Whether a file holds a photo; false for what is no avatar file, of which reading it says what is wrong."""
    try:
        with safe_open(str(path), framework="pt") as file:
            return _NAME in file.keys()  # noqa: SIM118
    except (SafetensorError, OSError):
        return False


def read_photo(path: Path, *, image_size: tuple[int, int]) -> NDArray[np.uint8] | None:
    """Reads the photo uint8 `[H, W, 3]` of an avatar file; None if it holds none.

    Args:
        path: the file.
        image_size: (height, width) that the photo must have.

    Raises:
        InputError: it is damaged or of another size.
    """
    if not holds_photo(path):
        return None
    with safe_open(str(path), framework="pt") as file:
        data = file.get_tensor(_NAME)
    try:
        if data.dtype != torch.uint8 or data.ndim != 1:
            raise ValueError(f"its photo is {data.dtype} {list(data.shape)}")
        with Image.open(io.BytesIO(data.numpy().tobytes()), formats=["JPEG"]) as picture:
            if (picture.height, picture.width) != tuple(image_size) or picture.height * picture.width > MAX_PIXELS:
                raise ValueError(f"its photo is {picture.height} x {picture.width}, not {image_size}")
            return np.array(picture.convert("RGB"))
    except InputError:
        raise
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError ... for damaged bytes
        raise incomplete(path, error) from error
