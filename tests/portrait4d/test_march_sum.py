"""The compiled sum along rays against torch's: values, gradients and second derivatives."""

import pytest
import torch
from torch import Tensor

from portrait4d.ops.compiled import Backend
from portrait4d.render.march import sum_along_rays


def _inputs(*, dtype: torch.dtype = torch.float32, channels: int = 8) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    shares, features = torch.rand(2, 30, 7, dtype=dtype), torch.randn(2, 30, 7, channels, dtype=dtype)
    return shares.requires_grad_(), features.requires_grad_()


@pytest.mark.parametrize("channels", [8, 3, 1])
def test_numba_has_torchs_values_and_gradients(channels: int) -> None:
    inputs = _inputs(channels=channels)
    found, expected = (sum_along_rays(*inputs, backend=backend) for backend in ("numba", "torch"))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    weights = torch.randn(channels)
    gradients = (torch.autograd.grad((result.sin() * weights).sum(), inputs) for result in (found, expected))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_second_derivatives_are_those_of_torch() -> None:
    inputs = _inputs()

    def penalty(backend: Backend) -> Tensor:
        loss = sum_along_rays(*inputs, backend=backend).square().sum()
        gradients = torch.autograd.grad(loss, inputs, create_graph=True)
        return torch.stack([gradient.square().sum() for gradient in gradients]).sum()

    for one, other in zip(*(torch.autograd.grad(penalty(name), inputs) for name in ("numba", "torch")), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)


def test_the_definition_has_the_right_gradient() -> None:
    shares, features = _inputs(dtype=torch.float64, channels=2)
    assert torch.autograd.gradcheck(sum_along_rays, (shares[:1, :2], features[:1, :2]))


def test_numba_is_refused_where_it_does_not_fit() -> None:
    with pytest.raises(ValueError, match="float32"):
        sum_along_rays(*_inputs(dtype=torch.float64), backend="numba")
