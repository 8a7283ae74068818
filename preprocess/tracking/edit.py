"""Edits of a motion by name: expressions, gaze and head pose are set, everything else stays as it was.

The landmarks move as the head model moves them, and the residual between the two stays. So an edit shows in whatever
reads the motion, also where landmarks count for more than expressions.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flame.errors import InputError, printable
from flame.geometry.rotation import (
    axis_angle_to_matrix,
    euler_degrees_to_matrix,
    matrix_to_euler_degrees,
)
from flame.heads.expression_names import ANGLES, ARKIT_NAMES, GAZE, LOOK_RADIANS, LOOKS, actions_of
from flame.heads.head_model import HeadModel
from flame.heads.open_head import OpenHead, load_open_head
from flame.landmarks.groups import eye_opening
from preprocess.tracking.head_landmarks import moved_landmarks
from preprocess.tracking.motion_fields import AnyMotion, MotionFields
from preprocess.tracking.neutral import neutral_of

Values: TypeAlias = "float | Sequence[float] | NDArray"
"""One number for all frames, or `[T]`; of a gaze two numbers, or `[T, 2]`."""

_EYES = ("eye_left", "eye_right")


def edited(motion: AnyMotion, changes: Mapping[str, Values], *, model: HeadModel | None = None) -> AnyMotion:
    """Returns a motion in which what is named has the given values; see `Motion.edit`.

    Args:
        motion: T frames.
        changes: values by name, set in their order.
        model: the head model of the motion; the open head by default.

    Raises:
        InputError: a name is unknown, a value is out of range or of another shape, the motion cannot follow, or the
            model is missing or another.
    """
    model = _model_of(motion, model)
    draft = _Draft.of(motion)
    for name, values in changes.items():
        if name in ANGLES:
            draft.set_angle(ANGLES.index(name), checked_values(name, values, len(motion)))
            continue
        _check_can_follow(motion, model, name)
        if name == GAZE:
            draft.set_gaze(checked_values(name, values, len(motion)), model)
        else:
            draft.set_expression(actions_of(name), checked_values(name, values, len(motion)), model)
    return replace(motion, **draft.fields(model))


@dataclass
class _Draft:
    """A motion in the making.

    Attributes:
        motion: as it was.
        expression: `[T, E]`.
        eyes: `[T, 2, 3]`.
        degrees: `[T, 3]` yaw, pitch and roll; None where the pose is not edited.
    """

    motion: MotionFields
    expression: NDArray[np.float32]
    eyes: NDArray[np.float32]
    degrees: NDArray[np.float32] | None = None

    @classmethod
    def of(cls, motion: MotionFields) -> "_Draft":
        return cls(motion, motion.expression.copy(), motion.eyes.copy())

    def set_expression(self, actions: Sequence[str], values: NDArray[np.float32], model: HeadModel) -> None:
        """Sets actions; those of a look turn the eyeball, too."""
        for action in actions:
            self.expression[:, model.expression_names.index(action)] = values
        for grows, falls, joint, axis in LOOKS:
            if {grows, falls} & set(actions):
                share = self._column(grows, model) - self._column(falls, model)
                self.eyes[:, _EYES.index(joint), axis] = share * LOOK_RADIANS

    def set_gaze(self, gaze: NDArray[np.float32], model: HeadModel) -> None:
        """Turns both eyes to `gaze` `[T, 2]`; the lids follow."""
        right, up = gaze[:, 0] * LOOK_RADIANS, gaze[:, 1] * LOOK_RADIANS
        self.eyes[:] = np.stack([-up, right, np.zeros_like(up)], -1)[:, None]
        for name, values in looks_of(self.eyes).items():
            self.expression[:, model.expression_names.index(name)] = values

    def set_angle(self, index: int, degrees: NDArray[np.float32]) -> None:
        """Sets yaw, pitch or roll; the others stay."""
        if self.degrees is None:
            self.degrees = np.stack(angles_of(self.motion), -1)
        self.degrees[:, index] = degrees

    def fields(self, model: HeadModel) -> dict[str, Any]:
        """The fields that the edits change, landmarks and lids among them."""
        before = self.motion
        changed: dict[str, Any] = {"expression": self.expression, "eyes": self.eyes, **self._pose()}
        landmarks = moved_landmarks(model, before, replace(before, **changed))
        opening = eye_opening(landmarks) - eye_opening(before.landmarks)
        return {
            **changed,
            "landmarks": landmarks,
            "eye_open": (before.eye_open + opening).clip(0, None).astype(np.float32),
            "neutral": neutral_of(before) if len(before) > 1 else before.neutral,
        }

    def _pose(self) -> dict[str, NDArray[np.float32]]:
        if self.degrees is None:
            return {}
        rotation = euler_degrees_to_matrix(*torch.from_numpy(self.degrees).unbind(-1))
        return self.motion.pose.map(torch.from_numpy).turned_to(rotation).map(Tensor.numpy).named()

    def _column(self, name: str, model: HeadModel) -> NDArray[np.float32]:
        return self.expression[:, model.expression_names.index(name)]


def angles_of(motion: MotionFields) -> tuple[NDArray[np.float32], ...]:
    """Yaw, pitch and roll `[T]` of the head in degrees.

    Signs are public: yaw > 0 nose to the viewer's right, pitch > 0 looks up, roll > 0 clockwise as the viewer sees it.
    """
    rotation = axis_angle_to_matrix(torch.from_numpy(motion.rotation))
    return tuple(angle.numpy() for angle in matrix_to_euler_degrees(rotation))


def values_of(motion: MotionFields, name: str, *, model: HeadModel | None = None) -> NDArray[np.float32]:
    """The values of a name in a motion; see `Motion.values`.

    Raises:
        InputError: the name is unknown, or the motion's head model has no such expressions.
    """
    if name in ANGLES:
        return angles_of(motion)[ANGLES.index(name)]
    model = _model_of(motion, model)
    _check_names(model, name)
    if name == GAZE:
        turn = motion.eyes.mean(1) / LOOK_RADIANS
        return np.stack([turn[:, 1], -turn[:, 0]], -1)
    columns = [model.expression_names.index(action) for action in actions_of(name)]
    return motion.expression[:, columns].mean(1)


def arkit_of(motion: MotionFields) -> dict[str, NDArray[np.float32]]:
    """The 52 expressions by ARKit name, `[T]` each, in their order; see `Motion.to_arkit`.

    Raises:
        InputError: the motion's head model has no such expressions.
    """
    return {**{name: values_of(motion, name) for name in ARKIT_NAMES}, **looks_of(motion.eyes)}


def looks_of(eyes: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """The eyeLook actions `[T]` that turns of the eyeballs `[T, 2, 3]` stand for, at most 1."""
    looks = {}
    for grows, falls, joint, axis in LOOKS:
        share = eyes[:, _EYES.index(joint), axis] / LOOK_RADIANS
        looks[grows], looks[falls] = share.clip(0, 1), (-share).clip(0, 1)
    return looks


def checked_values(name: str, values: Values, num_frames: int) -> NDArray[np.float32]:
    """What a name is set to in each frame: `[T]`, of a gaze `[T, 2]`.

    Raises:
        InputError: the name is unknown, or the values are out of its range or of another shape.
    """
    tail: tuple[int, ...] = ()
    if name == GAZE:
        low, high, tail = -1.0, 1.0, (2,)
    elif name in ANGLES:
        low, high = -90.0, 90.0
    else:
        actions_of(name)
        low, high = 0.0, 1.0
    shape = (num_frames, *tail)
    try:
        array = np.asarray(values, np.float32)
        full = np.broadcast_to(array, shape) if array.shape in (tail, shape) else None
    except (TypeError, ValueError):
        full = None
    if full is None or not np.isfinite(full).all() or full.min() < low or full.max() > high:
        wanted = "two numbers" if tail else "a number"
        each = f", or so for each of {num_frames} frames" if num_frames > 1 else ""
        raise InputError(
            f"expected {name} as {wanted} from {low:g} to {high:g}{each}, got {printable(repr(values))[:60]}"
        )
    return full


def _check_can_follow(motion: MotionFields, model: HeadModel, name: str) -> None:
    """Refuses edits of a face that motion codes drive: nothing would show them."""
    if motion.codes.shape[1]:
        raise InputError(
            f"expected {', '.join(ANGLES)} for a motion with motion codes, which hold expression and gaze as a network "
            f"reads them off pictures, got {printable(name)!r}: edit a motion of engine lift or of the open head"
        )
    _check_names(model, name)


def _check_names(model: HeadModel, name: str) -> None:
    actions = () if name == GAZE else actions_of(name)
    if not set(actions) | {LOOKS[0][0]} <= set(model.expression_names):
        raise InputError(
            f"expected {', '.join(ANGLES)} for head model {model.name}, whose expressions have no names, got "
            f"{printable(name)!r}: track the clip for engine lift or the open head"
        )


def _model_of(motion: MotionFields, model: HeadModel | None) -> HeadModel:
    if model is None:
        if motion.head_model != OpenHead.name:
            raise InputError(
                f"expected the head model of this motion, '{motion.head_model}', got none: give model=engine.head_model"
            )
        model = open_head()
    motion.check_model(model)
    return model


@functools.cache
def open_head() -> HeadModel:
    """The open head, loaded once."""
    return load_open_head()
