"""Rotations: axis-angle vectors in radians, matrices that act on columns, and public yaw / pitch / roll.

`R = exp([r]x)`, `x' = R x`. Public angles follow `docs/conventions.md`: yaw > 0 turns the nose to the viewer's right
(+x), pitch > 0 looks up, roll > 0 tilts clockwise as the viewer sees it; the order is roll first, then pitch, then yaw.
"""

import math

import torch
from torch import Tensor

_SMALL_ANGLE_SQUARED = 1e-8
"""Below this squared angle the series is exact to float64 rounding; above it, sin and cos are."""


def axis_angle_to_matrix(rotvec: Tensor) -> Tensor:
    """Applies Rodrigues' formula; differentiable everywhere, also at zero.

    Args:
        rotvec: `[..., 3]` radians.

    Returns:
        `[..., 3, 3]`.
    """
    squared = (rotvec * rotvec).sum(-1)
    is_small = squared < _SMALL_ANGLE_SQUARED
    safe = torch.where(is_small, torch.ones_like(squared), squared)
    angle = safe.sqrt()
    sine = torch.where(is_small, 1 - squared / 6, angle.sin() / angle)  # sin(a) / a
    # (1 - cos(a)) / a^2 by the half angle: no cancellation
    cosine = torch.where(is_small, 0.5 - squared / 24, 2 * (angle / 2).sin() ** 2 / safe)
    cross = skew(rotvec)
    identity = torch.eye(3, dtype=rotvec.dtype, device=rotvec.device)
    return identity + sine[..., None, None] * cross + cosine[..., None, None] * (cross @ cross)


def skew(vector: Tensor) -> Tensor:
    """Returns the matrix `[v]x` with `[v]x w = v x w`: `[..., 3]` -> `[..., 3, 3]`."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    rows = [zero, -z, y, z, zero, -x, -y, x, zero]
    return torch.stack(rows, -1).reshape(*vector.shape, 3)


def matrix_to_axis_angle(matrix: Tensor) -> Tensor:
    """Returns the shortest rotation vector of a rotation matrix, differentiable except at half turns.

    Args:
        matrix: `[..., 3, 3]`.

    Returns:
        `[..., 3]` radians, length at most pi. At exactly half a turn either of the two vectors may come back.
    """
    quaternion = matrix_to_wxyz(matrix)
    quaternion = torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    real, imaginary = quaternion[..., 0], quaternion[..., 1:]
    squared = (imaginary * imaginary).sum(-1)
    is_small = squared < _SMALL_ANGLE_SQUARED
    length = torch.where(is_small, torch.ones_like(squared), squared).sqrt()
    # angle / sin(angle / 2); near zero: 2 / w * (1 - |v|^2 / (3 w^2))
    safe_real = torch.where(is_small, real, torch.ones_like(real))
    series = 2 / safe_real * (1 - squared / (3 * safe_real**2))
    factor = torch.where(is_small, series, 2 * torch.atan2(length, real) / length)
    return imaginary * factor[..., None]


def matrix_to_wxyz(matrix: Tensor) -> Tensor:
    """Returns the unit quaternion `[..., 4]` (real part first, either sign) of a rotation matrix `[..., 3, 3]`.

    It forms all four rows of the symmetric matrix `4 q q^T` and takes the one with the largest pivot, so that there is
    no cancellation at any angle.
    """
    m = matrix
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    outer = torch.stack(
        [
            torch.stack([1 + xx + yy + zz, wx, wy, wz], -1),
            torch.stack([wx, 1 + xx - yy - zz, xy, xz], -1),
            torch.stack([wy, xy, 1 - xx + yy - zz, yz], -1),
            torch.stack([wz, xz, yz, 1 - xx - yy + zz], -1),
        ],
        -2,
    )
    pivot = outer.diagonal(dim1=-2, dim2=-1).argmax(-1)
    row = outer.gather(-2, pivot[..., None, None].expand(*pivot.shape, 1, 4)).squeeze(-2)
    return row / row.norm(dim=-1, keepdim=True)


def euler_degrees_to_matrix(yaw_degrees: Tensor, pitch_degrees: Tensor, roll_degrees: Tensor) -> Tensor:
    """Returns the head rotation of public angles: `Ry(yaw) Rx(-pitch) Rz(-roll)`.

    Args:
        yaw_degrees: `[...]`, > 0 nose to the viewer's right.
        pitch_degrees: `[...]`, > 0 looks up.
        roll_degrees: `[...]`, > 0 clockwise as the viewer sees it.

    Returns:
        `[..., 3, 3]`.
    """
    radians = math.pi / 180
    zero = torch.zeros_like(yaw_degrees)
    about_y = axis_angle_to_matrix(torch.stack([zero, yaw_degrees * radians, zero], -1))
    about_x = axis_angle_to_matrix(torch.stack([-pitch_degrees * radians, zero, zero], -1))
    about_z = axis_angle_to_matrix(torch.stack([zero, zero, -roll_degrees * radians], -1))
    return about_y @ about_x @ about_z


def matrix_to_euler_degrees(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns (yaw, pitch, roll) in public degrees of a head rotation `[..., 3, 3]`; the inverse for |pitch| < 90."""
    degrees = 180 / math.pi
    yaw = torch.atan2(matrix[..., 0, 2], matrix[..., 2, 2])
    pitch = torch.asin(matrix[..., 1, 2].clamp(-1, 1))
    roll = -torch.atan2(matrix[..., 1, 0], matrix[..., 1, 1])
    return yaw * degrees, pitch * degrees, roll * degrees
