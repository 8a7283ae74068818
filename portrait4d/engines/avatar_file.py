"""The file format of avatars, for every engine: safetensors with named tensors and a JSON header.

The header always holds the format (one per engine), its version, the tracked source and the crop.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from flame.errors import InputError, brief, printable
from preprocess.faces.crop import Crop
from preprocess.files.atomic import atomic_path
from preprocess.tracking.motion import Motion, motion_from_arrays

_KEY = "portrait4d"
_MOTION = "motion."


def write_avatar(
    path: Path | str,
    tensors: Mapping[str, Tensor],
    *,
    file_format: str,
    version: int,
    motion: Motion,
    crop: Crop,
    **values: Any,
) -> None:
    """Writes an avatar file, atomically.

    Args:
        path: ends in `.safetensors`.
        tensors: the engine's own tensors, by name.
        file_format: name of the engine's format.
        version: version of that format.
        motion: the tracked source, T = 1.
        crop: where the rendered square lies in the photo.
        values: further values of the header, which JSON can hold.

    Raises:
        InputError: the name has another suffix.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise InputError(f"expected an avatar file name ending in .safetensors, got '{path.name}': rename it")
    arrays, plain = _split_motion(motion)
    tracked = {f"{_MOTION}{name}": torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
    square = {"matrix": crop.matrix.tolist(), "size": crop.size, "image_size": list(crop.image_size)}
    header = {"format": file_format, "version": version, "motion": plain, "crop": square, **values}
    # copies: safetensors refuses tensors that share memory
    stored = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in {**tensors, **tracked}.items()}
    with atomic_path(path) as temporary:  # `save_file` makes files that only their owner can read
        temporary.write_bytes(save(stored, metadata={_KEY: json.dumps(header)}))


def read_avatar(path: Path | str, *, file_format: str, version: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Reads the header and all tensors of an avatar file.

    Args:
        path: the file.
        file_format: the format that the engine reads.
        version: the newest version of it that this program knows.

    Raises:
        InputError: the file is missing, damaged, not an avatar, of another engine, or of a newer version.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no avatar file at {path}: make one with `portrait4d avatar PHOTO -o {path.name}`")
    try:
        with safe_open(str(path), framework="pt") as file:
            header = _parse_header((file.metadata() or {}).get(_KEY, "{}"), path)
            _check_header(header, path, file_format, version)
            return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        reason = printable(str(error)[:200])
        raise InputError(f"{path.name} is not a readable avatar file ({reason}): build it again") from error


def incomplete(path: Path | str, error: Exception) -> InputError:
    """Makes the error for an avatar file with parts that are missing, damaged or do not fit; `error` says which."""
    reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
    return InputError(f"{Path(path).name} is an incomplete avatar file ({printable(reason[:200])}): build it again")


def check_tensor(
    tensors: Mapping[str, Tensor], name: str, shape: tuple[int | None, ...], dtype: torch.dtype = torch.float32
) -> Tensor:
    """Returns one tensor of a file if it is what was expected.

    Args:
        tensors: the tensors of the file, by name.
        name: name of the tensor.
        shape: the expected shape; None stands for any length.
        dtype: the expected type.

    Raises:
        KeyError: the tensor is missing.
        ValueError: it has another type or shape, or holds numbers that are not finite.
    """
    tensor = tensors[name]
    fits = len(tensor.shape) == len(shape) and all(
        wanted in (None, found) for wanted, found in zip(shape, tensor.shape, strict=True)
    )
    if not fits or tensor.dtype != dtype:
        wanted = ", ".join("any" if side is None else str(side) for side in shape)
        raise ValueError(f"expected {name} to be {dtype} [{wanted}], got {tensor.dtype} {list(tensor.shape)}")
    if tensor.is_floating_point() and not tensor.isfinite().all():
        raise ValueError(f"{name} holds numbers that are not finite")
    return tensor


def motion_and_crop(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[Motion, Crop]:
    """Reads the tracked source (T = 1) and the crop from what `read_avatar` returned.

    Raises:
        KeyError: a part is missing.
        TypeError, ValueError: a part is damaged.
    """
    arrays = {name.removeprefix(_MOTION): t.numpy() for name, t in tensors.items() if name.startswith(_MOTION)}
    arrays |= {name: np.asarray(value) for name, value in dict(header["motion"]).items()}
    return motion_from_arrays(arrays), _read_crop(header["crop"])


def read_warnings(header: Mapping[str, Any]) -> tuple[str, ...]:
    """Reads the warnings about the source from a header, one sentence each.

    Raises:
        KeyError: they are missing.
        ValueError: they are not a list of texts.
    """
    lines = header["warnings"]
    if not (isinstance(lines, list) and all(isinstance(line, str) for line in lines)):
        raise ValueError("its warnings are not text")
    return tuple(lines)


def is_count(value: object) -> bool:
    """Whether a value of a header is a whole number from 1 to 2^31 - 1."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < _MAX_COUNT


_MAX_COUNT = 2**31


def _read_crop(square: Mapping[str, Any]) -> Crop:
    matrix, size, image_size = np.asarray(square["matrix"], np.float64), square["size"], square["image_size"]
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or not np.linalg.det(matrix):
        raise ValueError("the matrix of its crop is not an invertible 3 x 3 matrix")
    if not (isinstance(image_size, list) and len(image_size) == 2 and all(map(is_count, [size, *image_size]))):
        raise ValueError("the size of its crop is not a positive whole number")
    return Crop(matrix, size, (image_size[0], image_size[1]))


def _parse_header(text: str, path: Path) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = printable(str(error)[:100])
        raise InputError(f"{path.name} is not a readable avatar file ({reason}): build it again") from error
    if not isinstance(header, dict):
        raise InputError(f"{path.name} is not a readable avatar file (its header is not a JSON object): build it again")
    return header


def _check_header(header: Mapping[str, Any], path: Path, file_format: str, version: int) -> None:
    found = str(header.get("format"))
    if not found.startswith("portrait4d-"):
        raise InputError(
            f"expected an avatar file, got another safetensors file, {path.name}: make one with `portrait4d avatar`"
        )
    if found != file_format:
        name = found.removesuffix("-avatar").removeprefix("portrait4d-")
        named = "FOLDER with the weights that built it" if name == "trained" else printable(name)
        raise InputError(f"{path.name} was built by engine {name!r}: use --engine {named}, or build it again")
    found_version = header.get("version")
    if not isinstance(found_version, int) or not is_count(found_version):
        raise InputError(f"{path.name} is an avatar file of version {brief(found_version)}: build it again")
    if found_version > version:
        raise InputError(f"{path.name} was written by a newer portrait4d (version {found_version}): upgrade")


def _split_motion(motion: Motion) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    arrays, values = {}, {}
    for field in fields(motion):
        value = getattr(motion, field.name)
        if isinstance(value, np.ndarray):
            arrays[field.name] = value
        elif isinstance(value, Fraction):
            values[field.name] = [value.numerator, value.denominator]
        elif field.name != "neutral":  # a photo's own motion is counted from itself
            values[field.name] = list(value) if isinstance(value, tuple) else value
    return arrays, values
