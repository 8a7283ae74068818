"""Retargeting: a driver's motion becomes the drive of one avatar, which keeps its identity.

`absolute` copies the driver's values, except that the head's place in the picture is relative to the first frame.
`relative` adds the driver's change since its neutral frame to the source's own values, so that a tilted head stays
tilted and a smile remains; mouth opening, lids and gaze are absolute in both modes, so that a shut mouth is shut. A
source that drives itself is drawn unchanged in both modes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from flame.geometry.rotation import (
    axis_angle_to_matrix,
    euler_degrees_to_matrix,
    matrix_to_axis_angle,
    matrix_to_euler_degrees,
)
from flame.heads.head_model import HeadModel, HeadParams
from flame.heads.head_pose import HeadPose
from portrait4d.engines.base import Avatar, Drive
from portrait4d.engines.gaps import match_gaps
from portrait4d.engines.jitter import frame_seeds
from portrait4d.engines.retarget_options import RetargetOptions
from portrait4d.engines.turns import follow_turn, soft_limit
from preprocess.tracking.head_landmarks import face_centre, landmark_residual
from preprocess.tracking.motion import Motion
from preprocess.tracking.neutral import neutral_of

ABSOLUTE_EXPRESSIONS = (
    "eyeBlink",
    "eyeSquint",
    "eyeWide",
    "eyeLook",
    "jawOpen",
    "mouthClose",
    "mouthFunnel",
    "mouthPucker",
    "mouthRoll",
    "mouthPress",
    "tongueOut",
)
"""Prefixes of the names of expressions that are absolute in both modes."""

FRAMES_AT_ONCE = 64
"""Frames that are retargeted together; bounds the memory that long clips need."""

SHUT_EYES, NARROW_EYES = 0.12, 0.18
"""Lid gaps over eye width: eyes below the first are shut; the reference of open eyes is at least the second."""


@dataclass(frozen=True)
class Reference:
    """The driver's state that its change is relative to.

    Attributes:
        expression: [E] of the neutral frame.
        residual: [478, 3] metres, head frame; of the neutral frame, in mode absolute of the first one.
        rotation: [3, 3] of the head in camera space, in the neutral frame.
        place: [3] middle of the face in camera space, metres; of the same frame as `residual`.
        eye_open: [2] lid gap over eye width of the open eyes, subject's left first.
    """

    expression: Tensor
    residual: Tensor
    rotation: Tensor
    place: Tensor
    eye_open: Tensor


def reference_of(motion: Motion, options: RetargetOptions, model: HeadModel) -> Reference:
    """Finds the reference of a driver."""
    neutral = neutral_of(motion)
    at_rest = replace(
        motion[:1],
        expression=neutral.expression[None],
        rotation=neutral.rotation[None],
        translation=neutral.translation[None],
        landmarks=neutral.landmarks[None],
    )
    start = motion[:1] if options.mode == "absolute" else at_rest
    return Reference(
        expression=_tensor(neutral.expression),
        residual=landmark_residual(model, start)[0],
        rotation=axis_angle_to_matrix(_tensor(neutral.rotation)),
        place=_face_place(model, start)[0],
        eye_open=_tensor(neutral.eye_open).clamp(min=NARROW_EYES),
    )


def retarget(motion: Motion, avatar: Avatar, options: RetargetOptions, model: HeadModel) -> Drive:
    """Retargets a whole clip in one piece; see `retarget_parts`."""
    return Drive.concatenate(list(retarget_parts(motion, avatar, options, model)))


def retarget_parts(
    motion: Motion, avatar: Avatar, options: RetargetOptions, model: HeadModel, *, size: int = FRAMES_AT_ONCE
) -> Iterator[Drive]:
    """Retargets a clip, a few frames at a time.

    A drive takes more memory than its motion, and only the part that is being drawn is needed.

    Args:
        motion: the driver, T frames; a single one that holds no neutral frame is always absolute.
        avatar: the target.
        options: mode, limits and scales.
        model: the head model that both were tracked with.
        size: frames per part.

    Raises:
        InputError: at once, if either was tracked with another head model.
    """
    for clip in (motion, avatar.motion):
        clip.check_model(model)
    if len(motion) == 1 and motion.neutral is None:  # one picture has no change to add
        options = replace(options, mode="absolute")
    reference = reference_of(motion, options, model)
    starts = range(0, len(motion), size)
    return (retarget_frames(motion[i : i + size], avatar.motion, options, model, reference, i) for i in starts)


def retarget_frames(
    motion: Motion, source: Motion, options: RetargetOptions, model: HeadModel, reference: Reference, first: int = 0
) -> Drive:
    """Retargets frames whose reference is known; `first` is the number of the first one in its clip."""
    opened = eye_openness(motion, reference.eye_open)
    expression, residual = _retarget_expression(motion, source, options, model, reference, opened)
    pose = _retarget_pose(motion, source, options, model, reference)
    head = HeadParams(
        shape=_tensor(source.shape).repeat(len(motion), 1),
        expression=expression,
        neck=torch.zeros_like(pose.rotation),
        jaw=_scaled(motion.jaw, source.jaw, options.expression_scale),
        eyes=_retarget_gaze(motion, source, options, pose.rotation),
    )
    can_shut = float(np.max(source.eye_open[0])) > SHUT_EYES
    closed = (1 - opened).clamp(0, 1) * min(options.expression_scale, 1.0) * can_shut
    return Drive(
        pose=pose,
        head=head,
        eye_closed=closed,
        residual=residual,
        codes=_scaled(motion.codes, source.codes, options.expression_scale),
        noise_seeds=frame_seeds(options.jitter, range(first, first + len(motion))),
    )


def _retarget_expression(
    motion: Motion,
    source: Motion,
    options: RetargetOptions,
    model: HeadModel,
    reference: Reference,
    opened: Tensor,
) -> tuple[Tensor, Tensor]:
    """Retargeted expressions [T, E] and residuals [T, 478, 3]; `opened` [T, 2] is from `eye_openness`."""
    own, own_residual = _tensor(source.expression)[0], landmark_residual(model, source)[0]
    driver, residual = _tensor(motion.expression), landmark_residual(model, motion)
    scale = options.expression_scale
    if options.mode == "absolute":
        change = driver - own
    else:
        absolute = torch.tensor([name.startswith(ABSOLUTE_EXPRESSIONS) for name in model.expression_names])
        change = torch.where(absolute, driver - own, driver - reference.expression)
    if options.gaze != "driver":  # the lids go with the eyes
        looking = torch.tensor([name.startswith("eyeLook") for name in model.expression_names])
        change = torch.where(looking, torch.zeros_like(change), change)
    expression = own + scale * change
    expression = torch.maximum(torch.minimum(expression, model.expression_max), model.expression_min)
    residual = own_residual + scale * (residual - reference.residual)  # its constant part is the driver's own face
    if options.mode == "relative":
        residual = match_gaps(model, motion, source, expression, residual, opened, scale=scale)
    return expression, residual


def _scaled(driver: np.ndarray, own: np.ndarray, scale: float) -> Tensor:
    """Values [T, N] that are absolute in both modes: the source's, moved by the share `scale` towards the driver's."""
    if driver.shape[1] != own.shape[1]:  # only one of both has motion codes
        return _tensor(driver)
    return _tensor(own) + scale * (_tensor(driver) - _tensor(own))


def _face_place(model: HeadModel, motion: Motion) -> Tensor:
    """The middle of the face in camera space, [T, 3] metres."""
    turned = axis_angle_to_matrix(_tensor(motion.rotation)) @ face_centre(model, motion)
    return turned + _tensor(motion.translation)


def _retarget_pose(
    motion: Motion, source: Motion, options: RetargetOptions, model: HeadModel, reference: Reference
) -> HeadPose:
    """Retargeted head poses of T frames.

    The translation is that of the middle of the face, which is tracked well; the neck's place swings with every degree
    of pitch.
    """
    driver = axis_angle_to_matrix(_tensor(motion.rotation))
    own = axis_angle_to_matrix(_tensor(source.rotation)[0])
    origin = own if options.mode == "absolute" else reference.rotation
    rotation = follow_turn(driver, origin, own, scale=options.pose_scale)
    if options.yaw_limit is not None:
        yaw, pitch, roll = matrix_to_euler_degrees(rotation)
        own_yaw = abs(float(matrix_to_euler_degrees(own)[0]))
        rotation = euler_degrees_to_matrix(soft_limit(yaw, options.yaw_limit, own_yaw), pitch, roll)
    own_place, place = _face_place(model, source)[0], _face_place(model, motion)
    sideways = own_place[:2] + options.pose_scale * (place[:, :2] - reference.place[:2])
    distance = own_place[2] * (place[:, 2] / reference.place[2]) ** options.pose_scale
    translation = torch.cat([sideways, distance[:, None]], 1) - rotation @ face_centre(model, source)
    return HeadPose(rotation=matrix_to_axis_angle(rotation), translation=translation)


def eye_openness(motion: Motion, opened: Tensor) -> Tensor:
    """Opening of the eyes [T, 2], subject's left first, relative to that of the open eyes `opened` [2].

    Both eyes get their mean, because the far eye of a turned head measures too low, unless they differ so much that it
    is a wink.
    """
    each = _tensor(motion.eye_open) / opened
    wink = (((each[:, :1] - each[:, 1:]).abs() - 0.35) / 0.3).clamp(0, 1)
    return each.mean(1, keepdim=True) * (1 - wink) + each * wink


def _retarget_gaze(motion: Motion, source: Motion, options: RetargetOptions, rotation: Tensor) -> Tensor:
    driver, own = _tensor(motion.eyes), _tensor(source.eyes)[0]
    if options.gaze == "source":
        return own.expand_as(driver).clone()
    if options.gaze == "camera":
        turned = axis_angle_to_matrix(rotation)  # of the result, which the eyes have to compensate
        forward = turned.mT @ turned.new_tensor([0.0, 0.0, 1.0])
        pitch, yaw = -torch.asin(forward[:, 1].clamp(-1, 1)), torch.atan2(forward[:, 0], forward[:, 2])
        return torch.stack([pitch, yaw, torch.zeros_like(yaw)], -1)[:, None].expand_as(driver).clone()
    return driver


def batches(drive: Drive, size: int = 8) -> Iterator[Drive]:
    """Splits a drive into consecutive drives of `size` frames; the last one may be shorter."""
    for start in range(0, len(drive), size):
        yield drive[start : start + size]


def _tensor(values: np.ndarray | Tensor) -> Tensor:
    return torch.as_tensor(np.asarray(values), dtype=torch.float32)
