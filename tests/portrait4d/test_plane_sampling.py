"""The compiled reading of planes against torch's."""

import pytest
import torch

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


def test_numba_is_refused_where_gradients_are_wanted() -> None:
    planes = TriPlanes(torch.randn(1, 3, 32, 8, 8), "eg3d")
    with pytest.raises(ValueError, match="without gradients"):
        planes.sample(torch.zeros(1, 1, 3), backend="numba")
    points = torch.zeros(1, 1, 3, requires_grad=True)
    planes.sample(points).sum().backward()
    assert points.grad is not None and points.grad.abs().sum() > 0
