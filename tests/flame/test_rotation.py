"""Rotations: group laws, public signs, derivatives, and the places where formulas break."""

import math

import pytest
import torch

from flame.geometry.rotation import (
    axis_angle_to_matrix,
    euler_degrees_to_matrix,
    matrix_to_axis_angle,
    matrix_to_euler_degrees,
    skew,
)

RANDOM = torch.Generator().manual_seed(0)
VECTORS = torch.randn(50, 3, dtype=torch.float64, generator=RANDOM)


def test_matrices_are_rotations() -> None:
    matrix = axis_angle_to_matrix(VECTORS)
    assert torch.allclose(matrix @ matrix.transpose(1, 2), torch.eye(3, dtype=torch.float64).expand(50, 3, 3))
    assert torch.allclose(torch.linalg.det(matrix), torch.ones(50, dtype=torch.float64))


def test_equals_matrix_exponential() -> None:
    assert torch.allclose(axis_angle_to_matrix(VECTORS), torch.linalg.matrix_exp(skew(VECTORS)), atol=1e-12)


def test_quarter_turn_about_y_takes_z_to_x() -> None:
    matrix = axis_angle_to_matrix(torch.tensor([0.0, math.pi / 2, 0.0]))
    assert torch.allclose(matrix @ torch.tensor([0.0, 0.0, 1.0]), torch.tensor([1.0, 0.0, 0.0]), atol=1e-6)


@pytest.mark.parametrize("angle", [0.0, 1e-12, 1e-6, 1e-4, 1.2e-4, 1e-2, 1.0, 3.0, math.pi - 1e-6])
def test_round_trip(angle: float) -> None:
    axis = torch.nn.functional.normalize(VECTORS, dim=1)
    back = matrix_to_axis_angle(axis_angle_to_matrix(axis * angle))
    assert torch.allclose(back, axis * angle, atol=1e-9)


def test_half_turn_comes_back_up_to_sign() -> None:
    axis = torch.nn.functional.normalize(VECTORS, dim=1)
    back = matrix_to_axis_angle(axis_angle_to_matrix(axis * math.pi)) / math.pi
    assert torch.allclose((back * axis).sum(1).abs(), torch.ones(50, dtype=torch.float64), atol=1e-6)


@pytest.mark.parametrize("scale", [0.0, 1e-9, 1e-3, 1.0])
def test_gradients(scale: float) -> None:
    vector = (VECTORS[:4] * scale).requires_grad_()
    assert torch.autograd.gradcheck(axis_angle_to_matrix, vector)
    assert torch.autograd.gradcheck(lambda value: matrix_to_axis_angle(axis_angle_to_matrix(value)), vector)


def test_public_signs() -> None:
    """Yaw > 0: nose to +x. Pitch > 0: nose up. Roll > 0: clockwise to the viewer, so the crown goes to +x."""
    nose, crown = torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.0, 1.0, 0.0])
    zero, ten = torch.tensor(0.0), torch.tensor(10.0)
    assert (euler_degrees_to_matrix(ten, zero, zero) @ nose)[0] > 0.17
    assert (euler_degrees_to_matrix(zero, ten, zero) @ nose)[1] > 0.17
    assert (euler_degrees_to_matrix(zero, zero, ten) @ crown)[0] > 0.17


def test_euler_round_trip() -> None:
    angles = torch.rand(3, 40, dtype=torch.float64, generator=RANDOM) * 160 - 80
    back = matrix_to_euler_degrees(euler_degrees_to_matrix(*angles))
    for angle, again in zip(angles, back, strict=True):
        assert torch.allclose(angle, again, atol=1e-9)
