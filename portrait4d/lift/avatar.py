"""The avatar of the embedded engine and the file it is kept in: safetensors with arrays named `part.field` and a JSON
header."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, is_dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from flame.errors import InputError
from portrait4d.lift.eyes import Eye
from portrait4d.lift.lids import Lid
from portrait4d.lift.mouth import Interior, OwnMouth
from portrait4d.lift.rig import Rig
from preprocess.atomic import atomic_path
from preprocess.crop import Crop
from preprocess.motion import Motion

FORMAT = "portrait4d-lift-avatar"
VERSION = 1


@dataclass(frozen=True)
class LiftAvatar:
    """One source, ready to be drawn.

    `person` [H, W, 4] premultiplied canvas; `under` [H, W, 4] what shows through the openings (eyes completed under
    the lids, the photo's mouth);
    `changed` [H, W, 4] the skin of closed lids, and the photo's teeth without the lips around them; `background` [S,
    S, 3]; all in [0, 1]. `light` [4] see `lighting`.
    `lids`: patch points (upper, lower) of the
    subject's left and right eye, [2, 2];
    `lips`: patch points (upper, lower), [2].
    """

    rig: Rig
    left_eye: Eye
    right_eye: Eye
    left_lid: Lid
    right_lid: Lid
    interior: Interior
    own_mouth: OwnMouth
    person: Tensor
    under: Tensor
    changed: Tensor
    background: Tensor
    light: Tensor
    lids: Tensor
    lips: Tensor
    motion: Motion
    crop: Crop
    warnings: tuple[str, ...] = ()
    engine: str = "lift"

    def to(self, device: torch.device | str) -> LiftAvatar:
        """The same avatar on another device."""
        moved = {
            field.name: value.to(device) for field in fields(self) if hasattr(value := getattr(self, field.name), "to")
        }
        return LiftAvatar(**{field.name: moved.get(field.name, getattr(self, field.name)) for field in fields(self)})

    def save(self, path: Path | str) -> None:
        """Write to a `.safetensors` file, atomically. Pictures are kept in half precision: finer than the 8 bits they
        came from."""
        path = Path(path)
        if path.suffix != ".safetensors":
            raise InputError(f"expected an avatar file name ending in .safetensors, got '{path.name}': rename it")
        tensors: dict[str, Tensor] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                tensors[field.name] = value.half() if field.name in _PICTURES else value
            elif is_dataclass(value) and field.name in _PARTS:
                tensors |= {f"{field.name}.{part.name}": getattr(value, part.name) for part in fields(value)}
        arrays, values = _split_motion(self.motion)
        tensors |= {f"motion.{name}": torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
        header = {
            "format": FORMAT,
            "version": VERSION,
            "motion": values,
            "crop": {
                "matrix": self.crop.matrix.tolist(),
                "size": self.crop.size,
                "image_size": list(self.crop.image_size),
            },
            "warnings": list(self.warnings),
        }
        # safetensors refuses tensors that share memory
        stored = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
        with atomic_path(path) as temporary:  # `save_file` would make it unreadable to others
            temporary.write_bytes(save(stored, metadata={"portrait4d": json.dumps(header)}))

    @classmethod
    def load(cls, path: Path | str) -> LiftAvatar:
        """Read what `save` wrote.

        Raises:
            InputError: not an avatar file, a damaged one, or one of a newer version.
        """
        header, tensors = _read(Path(path))
        try:
            return cls._from_tensors(header, tensors)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{Path(path).name} is an incomplete avatar file ({error}): build it again") from error

    @classmethod
    def _from_tensors(cls, header: dict[str, Any], tensors: dict[str, Tensor]) -> LiftAvatar:
        parts: dict[str, Any] = {}
        for name, kind in _PARTS.items():
            parts[name] = kind(**{field.name: tensors[f"{name}.{field.name}"] for field in fields(kind)})
        for name in (*_PICTURES, "light", "lids", "lips"):
            parts[name] = tensors[name].float() if name in _PICTURES else tensors[name]
        crop = header["crop"]
        return cls(
            **parts,
            motion=_join_motion(tensors, header["motion"]),
            crop=Crop(np.array(crop["matrix"]), crop["size"], tuple(crop["image_size"])),
            warnings=tuple(header["warnings"]),
        )


_PARTS: dict[str, type[Any]] = {
    "rig": Rig,
    "left_eye": Eye,
    "right_eye": Eye,
    "left_lid": Lid,
    "right_lid": Lid,
    "interior": Interior,
    "own_mouth": OwnMouth,
}
_PICTURES = ("person", "under", "changed", "background")


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise InputError(f"no avatar file at {path}: make one with `portrait4d avatar PHOTO -o {path.name}`")
    try:
        with safe_open(str(path), framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("portrait4d", "{}"))
            if header.get("format") != FORMAT:
                raise InputError(f"{path.name} is a safetensors file but no avatar: make one with `portrait4d avatar`")
            if header["version"] > VERSION:
                raise InputError(
                    f"{path.name} was written by a newer portrait4d (version {header['version']}): upgrade"
                )
            return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise InputError(f"{path.name} is not a readable avatar file ({error}): build it again") from error


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


def _join_motion(tensors: dict[str, Tensor], values: dict[str, Any]) -> Motion:
    arrays = {
        name.removeprefix("motion."): tensor.numpy() for name, tensor in tensors.items() if name.startswith("motion.")
    }
    plain = dict(values, frame_rate=Fraction(*values["frame_rate"]), warnings=tuple(values["warnings"]))
    return Motion(**arrays, **plain)
