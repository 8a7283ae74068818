"""The compiled reading of planes against torch's."""

import pytest
import torch
from torch import Tensor

from portrait4d.ops.compiled import Backend
from portrait4d.render.planes import TriPlanes


@pytest.mark.parametrize("layout", ["eg3d", "orthogonal"])
def test_numba_equals_torch_inside_and_outside_the_cube(layout: str) -> None:
    torch.manual_seed(0)
    planes = TriPlanes(torch.randn(2, 3, 32, 20, 24), layout, 1.3)  # pyright: ignore[reportArgumentType]
    points = (torch.rand(2, 5000, 3) * 2 - 1) * 0.9  # a third of them outside
    points[0, :3] = torch.tensor([[0.65, 0.65, 0.65], [-0.65, 0.65, 0.0], [9.0, torch.nan, 0.1]])
    with torch.no_grad():
        found, expected = planes.sample(points, backend="numba"), planes.sample(points, backend="torch")
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-5, equal_nan=True)
    assert expected[0, 2].isnan().all()
    assert expected[1].std() > 0.1


@pytest.mark.parametrize("channels", [8, 5])
def test_numba_has_the_gradient_of_torch(channels: int) -> None:
    torch.manual_seed(0)
    features = torch.randn(2, 3, channels, 20, 24, requires_grad=True)
    planes = TriPlanes(features, "orthogonal", 1.3)
    points = (torch.rand(2, 500, 3) * 2 - 1) * 0.9
    weights = torch.randn(2, 500, channels)
    found, expected = (
        torch.autograd.grad((planes.sample(points, backend=backend) * weights).sum(), features)[0]
        for backend in ("numba", "torch")
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=5e-5)
    assert expected.abs().max() > 0.5


def test_the_definition_has_the_right_gradient() -> None:
    torch.manual_seed(0)
    features, points = torch.randn(1, 3, 2, 3, 4).double().requires_grad_(), torch.rand(1, 5, 3).double() - 0.5
    assert torch.autograd.gradcheck(lambda value: TriPlanes(value, "orthogonal", 1.1).sample(points), features)


def test_second_derivatives_are_those_of_torch() -> None:
    torch.manual_seed(0)
    features, points = torch.randn(1, 3, 4, 8, 8, requires_grad=True), torch.rand(1, 20, 3) - 0.5

    def penalty(backend: Backend) -> Tensor:
        loss = TriPlanes(features, "eg3d").sample(points, backend=backend).pow(3).sum()
        return torch.autograd.grad(loss, features, create_graph=True)[0].square().sum()

    found, expected = (torch.autograd.grad(penalty(backend), features)[0] for backend in ("numba", "torch"))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert expected.abs().max() > 0.1


def test_numba_is_refused_where_points_want_gradients() -> None:
    planes = TriPlanes(torch.randn(1, 3, 32, 8, 8), "eg3d")
    points = torch.zeros(1, 1, 3, requires_grad=True)
    with pytest.raises(ValueError, match="without gradients"):
        planes.sample(points, backend="numba")
    planes.sample(points).sum().backward()
    assert points.grad is not None and points.grad.abs().sum() > 0
