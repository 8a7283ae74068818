"""Landmarks on the head in metres: those of the head model, the driver's residual, and the gaps of lips and lids."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from flame.geometry.rotation import axis_angle_to_matrix
from flame.heads.head_model import HeadModel
from flame.landmarks.groups import (
    LEFT_LIDS,
    LOWER_INNER_LIP,
    LOWER_OUTER_LIP,
    NUM_MESH,
    RIGHT_LIDS,
    UPPER_INNER_LIP,
    UPPER_OUTER_LIP,
)
from preprocess.tracking.motion import Motion


def landmark_positions(model: HeadModel, shape: Tensor, expression: Tensor) -> Tensor:
    """The 478 landmarks [T, 478, 3] of the head at rest, metres, for one shape [S] and expressions [T, E]."""
    embedding = model.landmark_embedding(478)
    corners, weights = model.faces[embedding.faces], embedding.barycentric[..., None]
    neutral = torch.zeros(1, model.num_expression)
    base = (model.shaped(shape[None], neutral)[0][corners] * weights).sum(1)
    basis = (model.expression_basis[corners] * weights[..., None]).sum(1)
    return base + (expression @ basis.reshape(-1, basis.shape[-1]).T).reshape(len(expression), -1, 3)


def face_centre(model: HeadModel, motion: Motion) -> Tensor:
    """Mean [3] of a tracked person's landmarks at zero expression, metres, head frame."""
    return landmark_positions(model, _tensor(motion.shape), torch.zeros(1, model.num_expression))[0].mean(0)


def landmark_residual(model: HeadModel, motion: Motion) -> Tensor:
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


def match_gaps(
    model: HeadModel,
    motion: Motion,
    source: Motion,
    expression: Tensor,
    residual: Tensor,
    opened: Tensor,
    *,
    scale: float = 1.0,
) -> Tensor:
    """Corrects residuals [T, 478, 3] so that lips and lids open as the driver's do: closed lips touch, an O is an O.

    Lip gaps become those of the driver, in metres; lid gaps become those of the source times the opening of the
    driver's eyes.

    Args:
        model: the head model of both.
        motion: the driver, T frames.
        source: the source, T = 1.
        expression: [T, E] expressions of the result.
        residual: [T, 478, 3] residuals of the result so far, metres, head frame.
        opened: [T, 2] opening of the driver's eyes, subject's left first; 1 is as open as they usually are.
        scale: share of the way from the source's gaps to those of the driver.
    """
    result = residual.clone()
    driver = landmark_positions(model, _tensor(motion.shape), _tensor(motion.expression))
    driver = driver + landmark_residual(model, motion)
    own = landmark_positions(model, _tensor(source.shape), _tensor(source.expression))
    own = own + landmark_residual(model, source)
    now = landmark_positions(model, _tensor(source.shape), expression) + residual

    def gaps(points: Tensor, upper: tuple[int, ...], lower: tuple[int, ...]) -> Tensor:
        return points[:, list(upper), 1] - points[:, list(lower), 1]

    def add(upper: tuple[int, ...], lower: tuple[int, ...], missing: Tensor, upper_share: float) -> None:
        result[:, list(upper), 1] += upper_share * missing
        result[:, list(lower), 1] -= (1 - upper_share) * missing

    lips = (UPPER_INNER_LIP, LOWER_INNER_LIP)
    missing = gaps(own, *lips) + scale * (gaps(driver, *lips) - gaps(own, *lips)) - gaps(now, *lips)
    add(*lips, missing, 0.35)
    add(UPPER_OUTER_LIP, LOWER_OUTER_LIP, 0.8 * missing, 0.35)
    for index, lids in enumerate((LEFT_LIDS, RIGHT_LIDS)):
        factor = 1 + scale * (opened[:, index, None].clamp(max=1.6) - 1)
        add(*lids, gaps(own, *lids) * factor - gaps(now, *lids), 0.85)
    return result


def _tensor(values: np.ndarray | Tensor) -> Tensor:
    return torch.as_tensor(np.asarray(values), dtype=torch.float32)
