"""What a motion holds: the numbers of every frame of one head, checked, sliced, and as parameters and cameras."""

import dataclasses
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flame.errors import InputError
from flame.geometry.camera import Camera
from flame.heads.head_model import HeadModel, HeadParams
from flame.heads.head_pose import HeadPose


@dataclass(frozen=True)
class NeutralFrame:
    """The state of a driver that its changes are counted from, where it is not one of its frames.

    Attributes:
        expression: `[E]` coefficients.
        rotation: `[3]` axis-angle of the head in camera space, radians.
        translation: `[3]` head origin in camera space, metres.
        landmarks: `[478, 3]` crop px.
        eye_open: `[2]` opening of the lids of open eyes, as a fraction of the eye's width, subject's left eye first.
    """

    expression: NDArray[np.float32]
    rotation: NDArray[np.float32]
    translation: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    eye_open: NDArray[np.float32]

    def check(self, num_expression: int) -> None:
        """Checks the shapes.

        Raises:
            ValueError: one is another.
        """
        expected = {
            "expression": (num_expression,), "rotation": (3,), "translation": (3,), "landmarks": (478, 3),
            "eye_open": (2,),
        }  # fmt: skip
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"neutral.{name} must be {list(shape)}, got {list(getattr(self, name).shape)}")


AnyMotion = TypeVar("AnyMotion", bound="MotionFields")


@dataclass(frozen=True)
class MotionFields:
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
        neutral: what relative motion is counted from; None: a frame of the clip (`neutral.neutral_of` finds it).
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
    neutral: NeutralFrame | None = None

    def __post_init__(self) -> None:
        frames = len(self.seconds)
        if not self.codes.size:
            object.__setattr__(self, "codes", np.zeros((frames, 0), np.float32))
        for name, tail in PER_FRAME.items():
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

        if self.neutral is not None:
            self.neutral.check(self.expression.shape[1])

    def __repr__(self) -> str:
        frames = "1 frame" if len(self) == 1 else f"{len(self)} frames at {float(self.frame_rate):g} per second"
        return f"{type(self).__name__}({frames}, head model {self.head_model!r}, source {self.source!r})"

    def __len__(self) -> int:
        return len(self.seconds)

    def __getitem__(self: AnyMotion, index: slice) -> AnyMotion:
        """Returns the frames of a slice, as a shorter clip.

        Raises:
            TypeError: the index is no slice.
        """
        if not isinstance(index, slice):
            raise TypeError(f"a motion is sliced, not indexed: use motion[i:i + 1], got {index!r}")
        return dataclasses.replace(self, **{name: getattr(self, name)[index] for name in PER_FRAME})

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


PER_FRAME: dict[str, tuple[int | None, ...]] = {
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
