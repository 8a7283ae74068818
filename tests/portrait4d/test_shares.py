"""The compiled shares of samples against torch's: values, gradients and second derivatives."""

import pytest
import torch
from torch import Tensor

from portrait4d.ops.compiled import Backend
from portrait4d.render.shares import sample_shares


def _inputs() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    depths, densities = 2 * torch.rand(2, 40, 9), 5 * torch.randn(2, 40, 9)
    depths[0, :5, 3:6] = 1.0  # equal ones stay in order
    densities[1, :5] = 200.0  # nothing passes
    return depths, densities.requires_grad_()


@pytest.mark.parametrize("is_sorted", [False, True])
def test_numba_has_torchs_values_and_gradients(is_sorted: bool) -> None:
    depths, densities = _inputs()
    if is_sorted:
        depths = depths.sort(-1).values
    results = [sample_shares(depths, densities, is_sorted=is_sorted, backend=backend) for backend in ("numba", "torch")]
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    weights, shares = torch.randn(8), torch.randn(9)
    gradients = [
        torch.autograd.grad((result.weights.sin() * weights).sum() + (result.shares * shares).sum(), densities)[0]
        for result in results
    ]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_second_derivatives_are_those_of_torch() -> None:
    depths, densities = _inputs()

    def penalty(backend: Backend) -> Tensor:
        result = sample_shares(depths, densities, backend=backend)
        loss = result.shares.square().sum() + result.weights.sin().sum()
        return torch.autograd.grad(loss, densities, create_graph=True)[0].square().sum()

    found, expected = (torch.autograd.grad(penalty(backend), densities)[0] for backend in ("numba", "torch"))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_numba_is_refused_where_it_does_not_fit() -> None:
    depths, densities = _inputs()
    with pytest.raises(ValueError, match="float32"):
        sample_shares(depths.double(), densities.double(), backend="numba")
    with pytest.raises(ValueError, match="without gradients"):
        sample_shares(depths.requires_grad_(), densities, backend="numba")
