"""The avatar of the embedded engine and its file: safetensors with arrays named `part.field` and a JSON header."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from portrait4d.engines.avatar_file import (
    check_tensor,
    incomplete,
    motion_and_crop,
    read_avatar,
    read_warnings,
    write_avatar,
)
from portrait4d.engines.lift.eyes import Eye, plain_eye
from portrait4d.engines.lift.far_side import FarSide
from portrait4d.engines.lift.lids import Lid, plain_lid
from portrait4d.engines.lift.lighting import NUM_FIRST_ORDER, NUM_HARMONICS, fold_shares
from portrait4d.engines.lift.mouth import Interior, OwnMouth
from portrait4d.engines.lift.rig import Rig
from preprocess.faces.crop import Crop
from preprocess.tracking.motion import Motion

FORMAT = "portrait4d-lift-avatar"
VERSION = 2
"""Version 1 had lids without set edges and lashes, eyes without their shadow, mouths without teeth of their
own, no far side, and light of the first order."""


@dataclass(frozen=True)
class LiftAvatar:
    """One source, ready to be drawn.

    The canvas's H and W are the crop's side S with a margin all round; pictures are RGB in [0, 1].

    Attributes:
        rig: the drawn points and their motion.
        left_eye: the subject's left eye.
        right_eye: the subject's right eye.
        left_lid: both lids of the left eye.
        right_lid: both lids of the right eye.
        interior: the generic inside of the mouth.
        own_mouth: the inside of the mouth that the photo shows.
        far_side: what the turned head hides of itself.
        person: [H, W, 4] premultiplied canvas.
        under: [H, W, 4] what shows through the openings: eyes completed under the lids, the photo's mouth.
        changed: [H, W, 4] the skin of closed lids, and lips without the teeth between them.
        background: [S, S, 3] the crop without the person, who is filled in.
        light: [9], or [4] of an older file, see `lighting.fit_light`.
        lids: [2, 2] patch points (upper, lower) of the subject's left and right eye.
        lips: [2] patch points (upper, lower).
        motion: the tracked source.
        crop: where the rendered square lies in the photo.
        warnings: what makes the source hard for this engine, in sentences.
        engine: name of the engine.
    """

    rig: Rig
    left_eye: Eye
    right_eye: Eye
    left_lid: Lid
    right_lid: Lid
    interior: Interior
    own_mouth: OwnMouth
    far_side: FarSide
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

    def __repr__(self) -> str:
        return f"{type(self).__name__}(engine {self.engine!r}, {len(self.warnings)} warnings)"

    @cached_property
    def fold_shares(self) -> Tensor:
        """Share [P] of the shading of folds at the patch points, see `lighting.fold_shares`."""
        edges = torch.cat([self.lids.flatten(), self.left_lid.upper, self.right_lid.upper])
        return fold_shares(self.rig.rest[: self.rig.num_patch], self.rig.rest[edges])

    @cached_property
    def lid_shadows(self) -> list[Tensor]:
        """Brightness [V] that the upper lids leave the left and the right eye in the photo, see `Eye.shadow`."""
        pairs = ((self.left_eye, self.left_lid), (self.right_eye, self.right_lid))
        return [eye.shadow(eye.rest[None], self.rig.rest[None, lid.upper])[0] for eye, lid in pairs]

    def to(self, device: torch.device | str) -> LiftAvatar:
        """The same avatar on another device."""
        moved = {
            field.name: value.to(device) for field in fields(self) if hasattr(value := getattr(self, field.name), "to")
        }
        return LiftAvatar(**{field.name: moved.get(field.name, getattr(self, field.name)) for field in fields(self)})

    def save(self, path: Path | str) -> None:
        """Writes to a `.safetensors` file, atomically.

        Pictures are kept in half precision, finer than the 8 bits they came from.

        Raises:
            InputError: the name has another suffix.
        """
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
        """Reads what `save` wrote.

        Raises:
            InputError: the file is not an avatar of this engine, is damaged, or is of a newer version.
        """
        header, tensors = read_avatar(path, file_format=FORMAT, version=VERSION)
        try:
            if header["version"] < 2:
                tensors |= _added_in_version_2(tensors)
            return cls._from_tensors(header, tensors)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise incomplete(path, error) from error

    @classmethod
    def _from_tensors(cls, header: dict[str, Any], tensors: dict[str, Tensor]) -> LiftAvatar:
        _check_tensors(tensors)
        parts: dict[str, Any] = {}
        for name, kind in _PARTS.items():
            parts[name] = kind(**{field.name: tensors[f"{name}.{field.name}"] for field in fields(kind)})
        for name in (*_PICTURES, "light", "lids", "lips"):
            parts[name] = tensors[name].float() if name in _PICTURES else tensors[name]
        motion, crop = motion_and_crop(header, tensors)
        return cls(**parts, motion=motion, crop=crop, warnings=read_warnings(header))


_PARTS: dict[str, type[Any]] = {
    "rig": Rig,
    "left_eye": Eye,
    "right_eye": Eye,
    "left_lid": Lid,
    "right_lid": Lid,
    "interior": Interior,
    "own_mouth": OwnMouth,
    "far_side": FarSide,
}


def _added_in_version_2(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """What files of version 1 lack: lids and eyes are plain, mouths one surface, and nothing is mirrored."""
    parts = {"far_side": vars(FarSide.empty(len(tensors["rig.source_expression"])))}
    for side in ("left", "right"):
        parts[f"{side}_lid"] = plain_lid(tensors["rig.uv"], tensors[f"{side}_lid.gain"])
        parts[f"{side}_eye"] = plain_eye(len(tensors[f"{side}_eye.rest"]))
    added = {f"{part}.{name}": value for part, values in parts.items() for name, value in values.items()}
    none = torch.zeros(0, 3, dtype=torch.int64)
    one = torch.zeros(len(tensors["interior.faces"]), dtype=torch.int64)
    return {**added, "interior.layer": one, "own_mouth.opening_faces": none, "own_mouth.lip_faces": none}


_PICTURES = ("person", "under", "changed", "background")

_LAYOUT: dict[str, tuple[str | int | None, ...]] = {
    "rig.rest": ("V", 3),
    "rig.uv": ("V", 2),
    "rig.faces": (None, 3),
    "rig.expression_basis": ("3V", "E"),
    "rig.residual_basis": ("P", 478),
    "rig.head_weight": ("V",),
    "rig.light_weight": ("P",),
    "rig.patch_vertices": ("P",),
    "rig.source_expression": ("E",),
    "rig.source_rotation": (3,),
    "rig.source_translation": (3,),
    "rig.source_residual": (478, 3),
    "rig.focal_px": (),
    **{
        f"{eye}.{name}": tuple({"N": eye, "U": f"{eye[:-3]}lid upper"}.get(str(side), side) for side in shape)
        for eye in ("left_eye", "right_eye")
        for name, shape in (
            ("rest", ("N", 3)), ("from_centre", ("N", 3)), ("follow", ("N",)), ("uv", ("N", 2)), ("faces", (None, 3)),
            ("source_gaze", (3,)), ("iris_height", ()), ("below_lid", ("N", "U")), ("picture", (None, None, 4)),
            ("picture_at", (2,)),
        )
    },
    **{
        f"{lid}.{name}": shape
        for lid in ("left_lid", "right_lid")
        for name, shape in (
            ("faces", (None, 3)),
            ("gain", ("P",)),
            ("gap", ()),
            ("shut_uv", ("P", 2)),
            ("upper", (f"{lid} upper",)),
            ("lower", (f"{lid} lower",)),
            ("below", (f"{lid} upper", f"{lid} lower")),
            ("opening", (f"{lid} upper", 3)),
            ("follow", ("P", f"{lid} upper")),
            ("rise", ("P", f"{lid} upper")),
            ("held", ("P", 3)),
            ("lash_length", ()),
            ("lashes", (None, None, 4)),
        )
    },
    "interior.rest": ("I", 3),
    "interior.expression_basis": ("3I", "E"),
    "interior.uv": ("I", 2),
    "interior.occlusion": ("I",),
    "interior.faces": (None, 3),
    "interior.atlas": (None, None, 4),
    "interior.layer": (None,),
    "own_mouth.rest": ("O", 3),
    "own_mouth.uv": ("O", 2),
    "own_mouth.faces": (None, 3),
    "own_mouth.with_jaw": ("O",),
    "own_mouth.opening": (),
    "own_mouth.shows_teeth": (),
    "own_mouth.opening_faces": (None, 3),
    "own_mouth.lip_faces": (None, 3),
    "far_side.far": ("K",),
    "far_side.near": ("K",),
    "far_side.sheet": ("M",),
    "far_side.faces": (None, 3),
    "far_side.swapped": ("E",),
    "far_side.texture": (None, None, 4),
    "person": ("C", "C", 4),
    "under": ("C", "C", 4),
    "changed": ("C", "C", 4),
    "background": ("S", "S", 3),
    "light": (None,),
    "lids": (2, 2),
    "lips": (2,),
}  # fmt: skip
"""Shapes in a file. The same letter means the same length, "3" before it three rows per point; None is any length."""

_INDICES = {
    "rig.faces": "V",
    "rig.patch_vertices": None,
    "left_eye.faces": "left_eye",
    "right_eye.faces": "right_eye",
    **{f"{lid}_lid.{name}": "P" for lid in ("left", "right") for name in ("faces", "upper", "lower")},
    "interior.faces": "I",
    "own_mouth.faces": "O",
    "own_mouth.opening_faces": "P",
    "own_mouth.lip_faces": "P",
    "far_side.far": "P",
    "far_side.near": "P",
    "far_side.sheet": "V",
    "far_side.faces": "K+M",
    "far_side.swapped": "E",
    "lids": "P",
    "lips": "P",
}
"""Arrays of point numbers, and the letters of the number of points; None for points of the head model."""


def _check_tensors(tensors: dict[str, Tensor]) -> None:
    """Checks that the arrays of a file fit together: the number of an absent point would stop or crash the drawing.

    Raises:
        KeyError: an array is missing.
        ValueError: the arrays do not fit together.
    """
    sizes: dict[str, int] = {}
    for name, layout in _LAYOUT.items():
        found = tensors[name].shape
        for letter, length in zip(layout, found, strict=False):
            if isinstance(letter, str) and not letter.startswith("3"):
                sizes.setdefault(letter, length)
        shape = tuple(
            side if not isinstance(side, str) else 3 * sizes[side[1:]] if side.startswith("3") else sizes.get(side)
            for side in layout
        )
        kinds = {
            "own_mouth.shows_teeth": torch.bool,
            "interior.layer": torch.int64,
            **dict.fromkeys(_PICTURES, torch.half),
        }
        check_tensor(tensors, name, shape, torch.int64 if name in _INDICES else kinds.get(name, torch.float32))
    if sizes["P"] > sizes["V"] or len(tensors["light"]) not in (NUM_HARMONICS, NUM_FIRST_ORDER):
        raise ValueError(f"{sizes['P']} points of the face among {sizes['V']} points, light {len(tensors['light'])}")
    for name, letter in _INDICES.items():
        least, most = (tensors[name].aminmax()) if tensors[name].numel() else (0, 0)
        count = None if letter is None else sum(sizes[part] for part in letter.split("+"))
        if least < 0 or (count is not None and tensors[name].numel() and most >= count):
            raise ValueError(f"{name} names points that are not there")
