"""The gaps of lips and lids: a driver's shut mouth is shut, and an O is an O, on another face."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from flame.heads.head_model import HeadModel
from flame.landmarks.groups import (
    LEFT_LIDS,
    LOWER_INNER_LIP,
    LOWER_OUTER_LIP,
    RIGHT_LIDS,
    UPPER_INNER_LIP,
    UPPER_OUTER_LIP,
)
from preprocess.tracking.head_landmarks import landmark_positions, landmark_residual
from preprocess.tracking.motion import Motion


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
