"""How far heads turn: the turn that follows a driver, its limit, and how long it lies beyond it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from flame.geometry.rotation import axis_angle_to_matrix, matrix_to_axis_angle, matrix_to_euler_degrees

USUAL_LIMIT_DEGREES = 25.0
"""Turn from the camera up to which a photo shows what is to be drawn."""


def follow_turn(driver: Tensor, origin: Tensor, own: Tensor, *, scale: float) -> Tensor:
    """Rotations [T, 3, 3] of a head that turns as its driver does.

    Args:
        driver: [T, 3, 3] of the driver's head in camera space.
        origin: [3, 3] that the driver's change is counted from.
        own: [3, 3] of the source's head.
        scale: factor on the change.
    """
    return axis_angle_to_matrix(matrix_to_axis_angle(driver @ origin.mT) * scale) @ own


def soft_limit(values: Tensor, limit: float, free: float) -> Tensor:
    """Limits angles smoothly: unchanged up to 80 % of `limit` or up to `free`, then bent towards the larger of both.

    `free` is the source's own turn, which may be further than the limit.
    """
    knee = max(0.8 * limit, free)
    room = max(limit - knee, 0.1)
    beyond = (values.abs() - knee).clamp(min=0)
    bent = knee + room * torch.tanh(beyond / room)
    return torch.where(values.abs() > knee, values.sign() * bent, values)


@dataclass(frozen=True)
class Beyond:
    """How far and how long a head turns beyond a limit: number of frames, and the largest turn in degrees."""

    num_frames: int
    largest_degrees: float


def turned_beyond(rotation: Tensor, own: Tensor, limit_degrees: float) -> Beyond:
    """Counts frames whose head turns beyond a limit, or beyond the source's own turn if that is further.

    Args:
        rotation: [T, 3, 3] in camera space.
        own: [3, 3] of the source's head.
        limit_degrees: largest turn to either side.
    """
    yaw = matrix_to_euler_degrees(rotation)[0].abs()
    free = float(matrix_to_euler_degrees(own[None])[0].abs())
    return Beyond(int((yaw > max(limit_degrees, free)).sum()), float(yaw.max()))
