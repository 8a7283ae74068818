"""The compiled reading of a deformation's grid against torch's."""

import pytest
import torch

from genhead.part_grids import move_by_grid


def test_numba_equals_torch_inside_outside_and_on_nodes() -> None:
    torch.manual_seed(0)
    low = torch.tensor([[-1.0, -0.5, 0.0], [-0.2, -0.3, -0.4]])
    high = low + torch.tensor([2.0, 1.0, 0.5])
    values = torch.randn(2, 3, 5, 4, 3)
    points = (torch.rand(2, 2000, 3) * 2 - 1) * 1.5
    points[:, 0], points[:, 1], points[0, 2, 1] = low, high, torch.nan
    found, expected = (move_by_grid(points, values, low, high, backend=backend) for backend in ("numba", "torch"))
    torch.testing.assert_close(found[:, 3:], expected[:, 3:], rtol=0, atol=2e-5)
    torch.testing.assert_close(found[:, 0], low + values[:, :, 0, 0, 0])
    torch.testing.assert_close(found[:, 1], high + values[:, :, -1, -1, -1])
    assert found[0, 2].isnan()[1]


def test_numba_is_refused_where_it_does_not_fit() -> None:
    points, low = torch.zeros(1, 2, 3), torch.zeros(1, 3)
    with pytest.raises(ValueError, match="two nodes"):
        move_by_grid(points, torch.zeros(1, 3, 1, 2, 2), low, low + 1, backend="numba")
