"""The file that an avatar is kept in: safetensors with arrays by name and a JSON header, for every engine.

The header always says its format (one per engine), its version, the tracked source and the crop.
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

from flame.errors import InputError
from preprocess.faces.crop import Crop
from preprocess.files.atomic import atomic_path
from preprocess.tracking.motion import Motion

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
    """Write an avatar file, whole or not at all.

    Args:
        tensors: the engine's own, by name.
        file_format: of the engine, and its `version`.
        values: what else the header holds, plain.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise InputError(f"expected an avatar file name ending in .safetensors, got '{path.name}': rename it")
    arrays, plain = _split_motion(motion)
    tracked = {f"{_MOTION}{name}": torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
    square = {"matrix": crop.matrix.tolist(), "size": crop.size, "image_size": list(crop.image_size)}
    header = {"format": file_format, "version": version, "motion": plain, "crop": square, **values}
    # safetensors refuses tensors that share memory
    stored = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in {**tensors, **tracked}.items()}
    with atomic_path(path) as temporary:  # `save_file` would make it unreadable to others
        temporary.write_bytes(save(stored, metadata={_KEY: json.dumps(header)}))


def read_avatar(path: Path | str, *, file_format: str, version: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors of an avatar file.

    Raises:
        InputError: no such file, no avatar, one of another engine, or one of a newer version.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no avatar file at {path}: make one with `portrait4d avatar PHOTO -o {path.name}`")
    try:
        with safe_open(str(path), framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(_KEY, "{}"))
            _check_header(header, path, file_format, version)
            return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise InputError(f"{path.name} is not a readable avatar file ({error}): build it again") from error


def motion_and_crop(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[Motion, Crop]:
    """The tracked source and the crop of what `read_avatar` gave."""
    arrays = {name.removeprefix(_MOTION): t.numpy() for name, t in tensors.items() if name.startswith(_MOTION)}
    values, square = header["motion"], header["crop"]
    plain = dict(values, frame_rate=Fraction(*values["frame_rate"]), warnings=tuple(values["warnings"]))
    crop = Crop(np.array(square["matrix"]), square["size"], tuple(square["image_size"]))
    return Motion(**arrays, **plain), crop


def _check_header(header: Mapping[str, Any], path: Path, file_format: str, version: int) -> None:
    found = str(header.get("format"))
    if not found.startswith("portrait4d-"):
        raise InputError(f"{path.name} is a safetensors file but no avatar: make one with `portrait4d avatar`")
    if found != file_format:
        name = found.removesuffix("-avatar").removeprefix("portrait4d-")
        raise InputError(f"{path.name} was built by engine {name!r}: use --engine {name}, or build it again")
    if header["version"] > version:
        raise InputError(f"{path.name} was written by a newer portrait4d (version {header['version']}): upgrade")


def _split_motion(motion: Motion) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    arrays, values = {}, {}
    for field in fields(motion):
        value = getattr(motion, field.name)
        if isinstance(value, np.ndarray):
            arrays[field.name] = value
        elif isinstance(value, Fraction):
            values[field.name] = [value.numerator, value.denominator]
        else:
            values[field.name] = list(value) if isinstance(value, tuple) else value
    return arrays, values
