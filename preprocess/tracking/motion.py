"""The motion of the head in a tracked clip (or photo), and its file (docs/motion_file.md)."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flame.errors import InputError, printable
from flame.geometry.camera import Camera
from flame.heads.head_model import HeadModel, HeadParams
from flame.heads.head_pose import HeadPose
from preprocess.files.atomic import atomic_path
from preprocess.files.npz import read_npz
from preprocess.tracking.motion_arrays import MOST_INFLATION, check_headers, numbers_of, text_of, whole_of

FORMAT = "portrait4d-motion"
VERSION = 1


@dataclass(frozen=True)
class Motion:
    """T frames of one head. A photo has T = 1.

    The fields are those of the file, flat and under the same names, because the file, its readers and
    `dataclasses.replace` use these names. `pose` and `head` give them in the form that the rest of the program uses;
    `head_fields` is the inverse.

    Attributes:
        head_model: name of the head model that the numbers belong to.
        frame_rate: frames per second.
        seconds: `[T]` float64 from the start of the clip.
        shape: `[S]` coefficients of the identity, the same in all frames.
        expression: `[T, E]` coefficients, in the head model's range.
        rotation: `[T, 3]` axis-angle of the head in camera space (OpenGL axes), radians.
        translation: `[T, 3]` head origin in camera space, metres.
        neck: `[T, 3]` radians, zero for tracked heads (docs/conventions.md).
        jaw: `[T, 3]` radians, zero for models whose jaw is an expression.
        eyes: `[T, 2, 3]` radians, subject's left eye first.
        landmarks: `[T, 478, 3]` crop px.
        valid: `[T]` bool, False where no face was found and the pose is held or interpolated.
        crop_matrix: `[3, 3]` frame px -> crop px, one for the whole clip.
        crop_size: side of the crop in px.
        frame_height: height of the video's frames, px.
        frame_width: width of the video's frames, px.
        source: name of the file the motion was tracked in.
        eye_open: `[T, 2]` opening of the lids as a fraction of the eye's width, subject's left eye first.
        fit_error: `[T]` mean distance of the fitted model from the landmarks, as a fraction of the outer-eye distance.
        codes: `[T, C]` motion codes (PD-FGC, C = 548); C = 0 where the clip was tracked without a motion encoder.
        warnings: defects of the track that a user should know, one sentence each.
        origin: where pictures and sound came from, as of `preprocess.tracking.origin`; empty if it is not known.
    """

    head_model: str
    frame_rate: Fraction
    seconds: NDArray[np.float64]
    shape: NDArray[np.float32]
    expression: NDArray[np.float32]
    rotation: NDArray[np.float32]
    translation: NDArray[np.float32]
    neck: NDArray[np.float32]
    jaw: NDArray[np.float32]
    eyes: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    valid: NDArray[np.bool_]
    crop_matrix: NDArray[np.float64]
    crop_size: int
    frame_height: int
    frame_width: int
    source: str
    eye_open: NDArray[np.float32]
    fit_error: NDArray[np.float32]
    codes: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    warnings: tuple[str, ...] = ()
    origin: str = ""

    def __post_init__(self) -> None:
        frames = len(self.seconds)
        if not self.codes.size:
            object.__setattr__(self, "codes", np.zeros((frames, 0), np.float32))
        for name, tail in _PER_FRAME.items():
            shape = getattr(self, name).shape
            if (
                shape[:1] != (frames,)
                or len(shape) != 1 + len(tail)
                or any(want is not None and got != want for got, want in zip(shape[1:], tail, strict=True))
            ):
                expected = ", ".join("E" if size is None else str(size) for size in (frames, *tail))
                raise ValueError(f"motion.{name} must be [{expected}], got {list(shape)}")
        if self.shape.ndim != 1 or self.crop_matrix.shape != (3, 3):
            raise ValueError(
                f"motion.shape must be [S] and crop_matrix [3, 3], got {self.shape.shape}, {self.crop_matrix.shape}"
            )

    def __len__(self) -> int:
        return len(self.seconds)

    def __getitem__(self, index: slice) -> "Motion":
        """Returns the frames of a slice, as a shorter clip.

        Raises:
            TypeError: the index is no slice.
        """
        if not isinstance(index, slice):
            raise TypeError(f"a motion is sliced, not indexed: use motion[i:i + 1], got {index!r}")
        return dataclasses.replace(self, **{name: getattr(self, name)[index] for name in _PER_FRAME})

    @property
    def pose(self) -> HeadPose[NDArray[np.float32]]:
        """The pose of T frames."""
        return HeadPose(rotation=self.rotation, translation=self.translation)

    @property
    def head(self) -> HeadParams[NDArray[np.float32]]:
        """The parameters of T frames, the shape repeated."""
        shape = np.tile(self.shape, (len(self), 1))
        return HeadParams(shape=shape, expression=self.expression, neck=self.neck, jaw=self.jaw, eyes=self.eyes)

    def check_model(self, model: HeadModel) -> None:
        """Checks that a head model is the one the motion was made for.

        Raises:
            InputError: it is another; the message names both.
        """
        if (model.name, model.num_shape, model.num_expression) != (
            self.head_model,
            len(self.shape),
            self.expression.shape[1],
        ):
            raise InputError(
                f"this motion belongs to head model '{self.head_model}' ({len(self.shape)} shape, "
                f"{self.expression.shape[1]} expression numbers), not to '{model.name}' ({model.num_shape}, "
                f"{model.num_expression}): track {self.source or 'the clip'} again for the "
                "engine that is to use it, or give the video itself"
            )

    def params(self, model: HeadModel, index: int | slice | None = None) -> HeadParams:
        """Returns parameters of one frame (B = 1), a slice, or all frames (B = T), in the model's device and dtype.

        Raises:
            InputError: the motion was made for another head model.
        """
        self.check_model(model)
        rows = _rows(index)
        return self.head.map(lambda part: _tensor(part[rows], model.template))

    def camera(self, index: int | slice | None = None, *, device: torch.device | str = "cpu") -> Camera:
        """Returns cameras that see the head at rest as the crop shows it: of one frame (B = 1), a slice, or all."""
        rows = _rows(index)
        pose = self.pose.map(lambda part: torch.from_numpy(part[rows]).to(device))
        return Camera.from_head_pose(pose.rotation, pose.translation)

    def save(self, path: str | Path) -> None:
        """Writes an `.npz`; the file appears whole or not at all.

        Raises:
            InputError: the name does not end in .npz.
        """
        path = Path(path)
        if path.suffix != ".npz":
            raise InputError(f"expected a motion file name ending in .npz, got '{path.name}': rename it")
        arrays = {name: np.asarray(getattr(self, name)) for name in (*_PER_FRAME, *_PER_CLIP)}
        arrays["frame_rate"] = np.array([self.frame_rate.numerator, self.frame_rate.denominator], np.int64)
        arrays["warnings"] = np.array(self.warnings, dtype=np.str_)
        arrays["origin"] = np.array(self.origin)
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, format=np.array(FORMAT), version=np.array(VERSION), allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> "Motion":
        """Reads a motion file.

        Raises:
            InputError: the file is missing, damaged, of another kind or version, or lacks a field.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(f"no motion file at '{path}': check the name, or make one with `portrait4d track`")
        known = {*_PER_FRAME, *_PER_CLIP, "frame_rate", "warnings", "origin", "format", "version"}
        check = partial(check_headers, per_frame=_PER_FRAME)
        try:
            arrays = read_npz(path, names=known, check=check, most_inflation=MOST_INFLATION)
        except ValueError as error:
            raise InputError(
                f"'{path}' is damaged or not a motion file ({printable(str(error)[:200])}): make one with "
                "`portrait4d track`"
            ) from error
        if str(arrays.get("format")) != FORMAT:
            raise InputError(f"'{path}' is not a motion file: make one with `portrait4d track`")
        version = str(arrays.get("version"))
        if version != str(VERSION):
            raise InputError(
                f"'{path}' is a motion file of version {version}, this program reads {VERSION}: "
                "track the clip again, or update portrait4d"
            )
        arrays.setdefault("codes", np.zeros((0, 0), np.float32))  # older files have no codes
        names = (*_PER_FRAME, *_PER_CLIP, "frame_rate", "warnings")
        missing = [name for name in names if name not in arrays]
        if missing:
            raise InputError(f"motion file '{path}' lacks {', '.join(missing)}: track the clip again")
        try:
            return motion_from_arrays(arrays)
        except ValueError as error:
            raise InputError(
                f"motion file '{path}' is damaged ({printable(str(error))}): track the clip again"
            ) from error


_PER_FRAME: dict[str, tuple[int | None, ...]] = {
    "seconds": (),
    "expression": (None,),
    "rotation": (3,),
    "translation": (3,),
    "neck": (3,),
    "jaw": (3,),
    "eyes": (2, 3),
    "landmarks": (478, 3),
    "valid": (),
    "eye_open": (2,),
    "fit_error": (),
    "codes": (None,),
}
"""Arrays over time, with their shape after the first axis (None: any size)."""

_PER_CLIP = ("head_model", "shape", "crop_matrix", "crop_size", "frame_height", "frame_width", "source")


def motion_from_arrays(arrays: Mapping[str, NDArray]) -> Motion:
    """Builds a motion from the arrays of a file.

    Args:
        arrays: the fields of a motion by name, `frame_rate` as numerator and denominator.

    Raises:
        ValueError: a field has another dtype or shape, is not finite, or a size is not above 0.
        KeyError: a field is missing.
    """
    numbers = {name: numbers_of(arrays, name) for name in (*_PER_FRAME, "shape", "crop_matrix")}
    numerator, denominator = (whole_of(value, "frame_rate") for value in np.atleast_1d(arrays["frame_rate"]))
    if not (numerator > 0 and denominator > 0 and len(np.atleast_1d(numbers["seconds"])) > 0):
        raise ValueError("it holds no frames or no frame rate")
    sizes = {name: whole_of(arrays[name], name) for name in ("crop_size", "frame_height", "frame_width")}
    kinds = {"seconds": np.float64, "valid": np.bool_, "crop_matrix": np.float64}
    with np.errstate(over="ignore"):
        values: dict = {name: value.astype(kinds.get(name, np.float32)) for name, value in numbers.items()}
    if not all(np.isfinite(value).all() for value in values.values()):
        raise ValueError("it holds numbers that are not finite")
    if min(sizes.values()) <= 0:
        raise ValueError("it holds a size that is not above 0")
    texts = np.atleast_1d(arrays["warnings"])
    if texts.size and texts.dtype.kind != "U":
        raise ValueError("its warnings are not text")
    return Motion(
        head_model=text_of(arrays, "head_model"),
        frame_rate=Fraction(numerator, denominator),
        source=text_of(arrays, "source"),
        origin=text_of(arrays, "origin") if "origin" in arrays else "",
        warnings=tuple(str(line) for line in texts.reshape(-1)),
        **sizes,
        **values,
    )


def head_fields(pose: HeadPose[NDArray[np.float32]], head: HeadParams[NDArray[np.float32]]) -> dict[str, Any]:
    """Returns the fields of a motion that hold its head, for the constructor.

    It is the inverse of `Motion.pose` and `Motion.head`.

    Args:
        pose: of T frames.
        head: of T frames of one person; the shape is taken from the first.
    """
    return {**pose.named(), **head.named(), "shape": head.shape[0].copy()}


def _rows(index: int | slice | None) -> slice:
    if index is None:
        return slice(None)
    if isinstance(index, slice):
        return index
    return slice(index, index + 1) if index != -1 else slice(-1, None)


def _tensor(array: NDArray, like: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(like)
