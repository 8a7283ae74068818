"""The avatar of the embedded engine and the file it is kept in: safetensors with arrays named `part.field` and a JSON
header."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flame.errors import InputError
from portrait4d.engines.avatar_file import motion_and_crop, read_avatar, write_avatar
from portrait4d.engines.lift.eyes import Eye
from portrait4d.engines.lift.lids import Lid
from portrait4d.engines.lift.mouth import Interior, OwnMouth
from portrait4d.engines.lift.rig import Rig
from preprocess.faces.crop import Crop
from preprocess.tracking.motion import Motion

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
        tensors: dict[str, Tensor] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                tensors[field.name] = value.half() if field.name in _PICTURES else value
            elif is_dataclass(value) and field.name in _PARTS:
                tensors |= {f"{field.name}.{part.name}": getattr(value, part.name) for part in fields(value)}
        write_avatar(
            path,
            tensors,
            file_format=FORMAT,
            version=VERSION,
            motion=self.motion,
            crop=self.crop,
            warnings=list(self.warnings),
        )

    @classmethod
    def load(cls, path: Path | str) -> LiftAvatar:
        """Read what `save` wrote.

        Raises:
            InputError: not an avatar file, a damaged one, or one of a newer version.
        """
        header, tensors = read_avatar(path, file_format=FORMAT, version=VERSION)
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
        motion, crop = motion_and_crop(header, tensors)
        return cls(**parts, motion=motion, crop=crop, warnings=tuple(header["warnings"]))


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
