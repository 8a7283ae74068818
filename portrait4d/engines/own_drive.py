"""Drives without a driver: an avatar in its own expression, turned to given angles, or edited by name."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from flame.geometry.rotation import euler_degrees_to_matrix
from flame.heads.head_model import HeadModel, expression_index
from portrait4d.engines.base import Avatar, Drive
from portrait4d.engines.jitter import frame_seeds
from portrait4d.engines.retarget import SHUT_EYES
from preprocess.tracking.head_landmarks import landmark_residual
from preprocess.tracking.motion import Motion

BLINKS = ("eyeBlinkLeft", "eyeBlinkRight")


def edited_drive(avatar: Avatar, motion: Motion, model: HeadModel, *, jitter: int | None = None) -> Drive:
    """The drive that shows an avatar as an edit of its own motion says, exactly: nothing is retargeted.

    Args:
        avatar: the avatar; unedited, it looks as in its photo.
        motion: what `Motion.edit` made of `avatar.motion`, or T frames of such.
        model: the head model of both.
        jitter: seed of the sampling noise, None for fixed samples.

    Raises:
        InputError: the motion belongs to another head model.
    """
    motion.check_model(model)
    can_shut = float(np.max(avatar.motion.eye_open[0])) > SHUT_EYES
    return Drive(
        pose=motion.pose.map(_tensor),
        head=motion.head.map(_tensor).replace(neck=torch.zeros(len(motion), 3)),
        eye_closed=_shut_lids(motion, model) * can_shut,
        residual=landmark_residual(model, motion),
        codes=_tensor(motion.codes),
        noise_seeds=frame_seeds(jitter, range(len(motion))),
    )


def _shut_lids(motion: Motion, model: HeadModel) -> Tensor:
    """How far each pair of lids is shut [T, 2]: near 1 only where a blink is; until then the lids move evenly."""
    if not set(BLINKS) <= set(model.expression_names):
        return torch.zeros(len(motion), 2)
    return _tensor(motion.expression)[:, expression_index(model, BLINKS)] ** 4


def orbit_drive(
    avatar: Avatar, model: HeadModel, yaw_degrees: np.ndarray, pitch_degrees: np.ndarray, *, jitter: int | None = None
) -> Drive:
    """The drive that shows an avatar in its own expression, turned to given angles [T] in degrees.

    Angles are absolute, not relative to the source's pose, in public signs: yaw > 0 nose to the viewer's right,
    pitch > 0 looks up. `jitter` is the seed of the sampling noise, None for fixed samples.
    """
    source = avatar.motion
    count = len(yaw_degrees)
    yaw, pitch = torch.as_tensor(yaw_degrees, dtype=torch.float32), torch.as_tensor(pitch_degrees, dtype=torch.float32)
    rotation = euler_degrees_to_matrix(yaw, pitch, torch.zeros_like(yaw))

    def repeat(values: np.ndarray | Tensor) -> Tensor:
        return _tensor(values)[:1].expand(count, *values.shape[1:]).clone()

    return Drive(
        pose=source.pose.map(_tensor)[0].turned_to(rotation),
        head=source.head.map(repeat).replace(neck=torch.zeros(count, 3)),
        eye_closed=torch.zeros(count, 2),
        residual=repeat(landmark_residual(model, source)),
        codes=repeat(source.codes),
        noise_seeds=frame_seeds(jitter, range(count)),
    )


def _tensor(values: np.ndarray | Tensor) -> Tensor:
    return torch.as_tensor(np.asarray(values), dtype=torch.float32)
