"""Landmarks on the head in metres: those of the head model, their residual, and where an edited head shows them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flame.geometry.rotation import axis_angle_to_matrix
from flame.heads.head_model import HeadModel
from flame.landmarks.groups import (
    LEFT_IRIS,
    LEFT_LIDS,
    LOWER_INNER_LIP,
    NUM_MESH,
    RIGHT_IRIS,
    RIGHT_LIDS,
    UPPER_INNER_LIP,
)
from preprocess.tracking.landmark_table import landmark_positions
from preprocess.tracking.motion_fields import MotionFields

FRAMES_AT_ONCE = 128
"""Frames whose landmarks are moved in one step; limits the memory for long clips."""

INNER_LIPS = (UPPER_INNER_LIP, LOWER_INNER_LIP)


def face_centre(model: HeadModel, motion: MotionFields) -> Tensor:
    """Mean [3] of a tracked person's landmarks at zero expression, metres, head frame."""
    return landmark_positions(model, _tensor(motion.shape), torch.zeros(1, model.num_expression))[0].mean(0)


def landmark_residual(model: HeadModel, motion: MotionFields) -> Tensor:
    """The residual [T, 478, 3]: displacement of the tracked landmarks from the fitted head, metres, head frame.

    It lies in the picture plane, since a picture shows no more. It is zero for irises and for points that the head
    model lacks.
    """
    points = landmark_positions(model, _tensor(motion.shape), _tensor(motion.expression))
    rotation = axis_angle_to_matrix(_tensor(motion.rotation))
    camera_points = points @ rotation.mT + _tensor(motion.translation)[:, None]
    size = motion.crop_size
    focal_px = float(motion.camera(0).intrinsics[0, 0, 0]) * size
    depth = -camera_points[..., 2]
    seen = _tensor(motion.landmarks)[..., :2]
    x = (seen[..., 0] - size / 2) * depth / focal_px - camera_points[..., 0]
    y = (size / 2 - seen[..., 1]) * depth / focal_px - camera_points[..., 1]
    residual = torch.stack([x, y, torch.zeros_like(x)], -1) @ rotation
    usable = model.landmark_embedding(478).valid.clone()
    usable[NUM_MESH:] = False
    return residual * usable[:, None]


def moved_landmarks(model: HeadModel, before: MotionFields, after: MotionFields) -> NDArray[np.float32]:
    """The landmarks [T, 478, 3] in crop px of a motion whose head was changed.

    Each is displaced from the changed head as it was from the tracked one, in metres in the head frame, but lips and
    lids that would cross touch: the head model may move them further than they are apart. The third number changes as
    the model's depth does.

    Args:
        model: the head model of both.
        before: the motion as it was tracked.
        after: the same with another expression, eyes or pose; its own landmarks are not read.
    """
    result = np.empty_like(before.landmarks)
    for start in range(0, len(before), FRAMES_AT_ONCE):
        part = slice(start, start + FRAMES_AT_ONCE)
        result[part] = _moved(model, before[part], after[part])
    return result


def _moved(model: HeadModel, before: MotionFields, after: MotionFields) -> NDArray[np.float32]:
    middle, focal_px = before.crop_size / 2, float(before.camera(0).intrinsics[0, 0, 0]) * before.crop_size
    seen, old = _tensor(before.landmarks), _to_camera(before, _posed_positions(model, before))
    pixel = -old[..., 2] / focal_px  # metres
    unexplained = torch.stack([seen[..., 0] - middle, middle - seen[..., 1]], -1) * pixel[..., None] - old[..., :2]
    residual = torch.nn.functional.pad(unexplained, (0, 1)) @ axis_angle_to_matrix(_tensor(before.rotation))
    residual = residual * model.landmark_embedding(478).valid[:, None]
    moved = _posed_positions(model, after) + residual
    _keep_apart(moved, _posed_positions(model, before) + residual)
    new = _to_camera(after, moved)
    scale = focal_px / -new[..., 2]
    before_head, after_head = (_tensor(motion.translation)[:, None, 2] for motion in (before, after))
    nearer = (new[..., 2] - after_head) - (old[..., 2] - before_head)
    in_crop = [middle + new[..., 0] * scale, middle - new[..., 1] * scale, seen[..., 2] - nearer / pixel]
    return torch.stack(in_crop, -1).numpy()


def _keep_apart(points: Tensor, before: Tensor) -> None:
    """Lets lips and lids of points [T, 478, 3] touch where they crossed, in place; head frame.

    Those that cross in `before` may do so as far.
    """
    for (upper, lower), share in ((LEFT_LIDS, 0.85), (RIGHT_LIDS, 0.85), (INNER_LIPS, 0.35)):
        first, second = list(upper), list(lower)
        least = (before[:, first, 1] - before[:, second, 1]).clamp(max=0)
        missing = (least - (points[:, first, 1] - points[:, second, 1])).clamp(min=0)
        points[:, first, 1] += share * missing
        points[:, second, 1] -= (1 - share) * missing


def _posed_positions(model: HeadModel, motion: MotionFields) -> Tensor:
    """The 478 landmarks [T, 478, 3] of the head at rest with turned eyeballs, metres."""
    shape, expression = _tensor(motion.shape), _tensor(motion.expression)
    points = landmark_positions(model, shape, expression)
    joints = model.rest_joints(shape.expand(len(motion), -1), expression)
    for index, (name, iris) in enumerate((("eye_left", LEFT_IRIS), ("eye_right", RIGHT_IRIS))):
        centre = joints[:, model.joint_names.index(name), None]
        turn = axis_angle_to_matrix(_tensor(motion.eyes[:, index]))
        points[:, list(iris)] = (points[:, list(iris)] - centre) @ turn.mT + centre
    return points


def _to_camera(motion: MotionFields, points: Tensor) -> Tensor:
    """Takes head-frame points [T, N, 3] to camera space, metres."""
    return points @ axis_angle_to_matrix(_tensor(motion.rotation)).mT + _tensor(motion.translation)[:, None]


def _tensor(values: np.ndarray | Tensor) -> Tensor:
    return torch.as_tensor(np.asarray(values), dtype=torch.float32)
