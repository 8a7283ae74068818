"""A head moved by hand: expressions by name, gaze, turns of the head and of the viewer, put on top of a drive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flame.errors import InputError
from flame.geometry.rotation import axis_angle_to_matrix, euler_degrees_to_matrix
from flame.heads.expression_names import ANGLES, LOOK_RADIANS
from flame.heads.head_model import HeadModel
from flame.heads.head_pose import HeadPose
from portrait4d.engines.base import Avatar, Drive
from portrait4d.engines.retarget import SHUT_EYES
from preprocess.tracking.edit import looks_of
from preprocess.tracking.head_landmarks import landmark_residual
from preprocess.tracking.motion import Motion

TURN_DEGREES = 60.0
"""Largest angle that is taken."""


@dataclass(frozen=True)
class ByHand:
    """What a person sets. All zero changes nothing.

    Attributes:
        expression: change of expressions by name, each in [-1, 1], added to what photo or driver show.
        gaze: (x, y) in [-1, 1], x > 0 to the viewer's right, y > 0 up, added to the eyes' own direction.
        yaw_degrees: turn of the head, > 0 nose to the viewer's right.
        pitch_degrees: > 0 looks up.
        roll_degrees: > 0 clockwise as the viewer sees it.
    """

    expression: Mapping[str, float] = field(default_factory=dict)
    gaze: tuple[float, float] = (0.0, 0.0)
    yaw_degrees: float = 0.0
    pitch_degrees: float = 0.0
    roll_degrees: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (*self.expression.items(), ("gaze x", self.gaze[0]), ("gaze y", self.gaze[1])):
            if not -1 <= value <= 1:
                raise InputError(f"expected {name} from -1 to 1, got {value}")
        for item in fields(self):
            if item.name.endswith("degrees") and not abs(getattr(self, item.name)) <= TURN_DEGREES:
                raise InputError(
                    f"expected {item.name} from {-TURN_DEGREES:g} to {TURN_DEGREES:g}, got {getattr(self, item.name)}"
                )

    @property
    def is_rest(self) -> bool:
        """Whether it changes nothing."""
        angles = (self.yaw_degrees, self.pitch_degrees, self.roll_degrees)
        return not (any(self.expression.values()) or any(self.gaze) or any(angles))


def check_names(by_hand: ByHand, model: HeadModel) -> None:
    """Refuses names that the head model lacks.

    Raises:
        InputError: with the unknown name.
    """
    for name in by_hand.expression:
        if name not in model.expression_names:
            raise InputError(
                f"expected the name of an expression of {model.name}, got {name!r}: docs/cli.md has a list"
            )


def still_drive(avatar: Avatar, model: HeadModel) -> Drive:
    """The drive of one frame that shows an avatar as its photo does."""
    source = avatar.motion
    as_tensor = lambda values: torch.as_tensor(values, dtype=torch.float32).clone()  # noqa: E731
    head = source.head.map(as_tensor)
    return Drive(
        pose=source.pose.map(as_tensor),
        head=head,
        eye_closed=torch.zeros(1, 2),
        residual=landmark_residual(model, source),
        codes=as_tensor(source.codes),
        noise_seeds=torch.zeros(1, 0, dtype=torch.int64),
    )


def move_by_hand(drive: Drive, by_hand: ByHand, avatar: Avatar, model: HeadModel) -> Drive:
    """Adds what a person sets to a drive of B frames.

    Expressions stay within the head model's range; the head turns about its middle, on top of its own turn.

    Raises:
        InputError: the head model lacks an expression.
    """
    if by_hand.is_rest:
        return drive
    check_names(by_hand, model)
    change = torch.zeros(model.num_expression)
    turned = LOOK_RADIANS * torch.tensor([-by_hand.gaze[1], by_hand.gaze[0], 0.0])
    looks = looks_of(turned.expand(1, 2, 3).numpy())
    for name, value in (*((name, float(share[0])) for name, share in looks.items()), *by_hand.expression.items()):
        if name in model.expression_names:
            change[model.expression_names.index(name)] += value
    expression = torch.maximum(
        torch.minimum(drive.head.expression + change, model.expression_max), model.expression_min
    )
    head = drive.head.replace(expression=expression, eyes=drive.head.eyes + turned)
    can_shut = float(avatar.motion.eye_open[0].max()) > SHUT_EYES
    blinks = torch.tensor([by_hand.expression.get(f"eyeBlink{side}", 0.0) for side in ("Left", "Right")])
    closed = (drive.eye_closed + blinks * can_shut).clamp(0, 1)
    return replace(drive, pose=_turned(drive.pose, by_hand), head=head, eye_closed=closed)


def _turned(pose: HeadPose[Tensor], by_hand: ByHand) -> HeadPose[Tensor]:
    """The pose turned about the middle of the head, seen from the camera."""
    angles = (torch.tensor([value]) for value in (by_hand.yaw_degrees, by_hand.pitch_degrees, by_hand.roll_degrees))
    return pose.turned_to(euler_degrees_to_matrix(*angles) @ axis_angle_to_matrix(pose.rotation))


def motion_by_hand(motion: Motion, by_hand: ByHand | Sequence[ByHand], model: HeadModel) -> Motion:
    """The same for a motion of T frames, such as a file is made of: what is set by hand shows in what it drives.

    Args:
        motion: T frames.
        by_hand: of all frames, or one for each.
        model: the head model of the motion.

    Raises:
        InputError: the motion cannot follow what is set.
    """
    poses = [by_hand] * len(motion) if isinstance(by_hand, ByHand) else by_hand
    changes: dict[str, NDArray] = {}
    for name in dict.fromkeys(name for pose in poses for name in pose.expression):
        added = np.array([pose.expression.get(name, 0.0) for pose in poses])
        if added.any():
            changes[name] = (motion.values(name, model=model) + added).clip(0, 1)
    for name, most in (("gaze", 1.0), *((name, 90.0) for name in ANGLES)):
        added = np.array([getattr(pose, name) for pose in poses])
        if added.any():
            changes[name] = (motion.values(name, model=model) + added).clip(-most, most)
    return motion.edit(model=model, **changes) if changes else motion
