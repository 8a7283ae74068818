"""The compiled activation against torch's: values, gradients and second derivatives."""

from typing import Any

import pytest
import torch
from torch import Tensor

from portrait4d.ops.activation import bias_act
from portrait4d.ops.compiled import Backend

CASES = {
    "all": {"scale": True, "noise": 3, "clamp": 1.5},
    "one noise for all": {"scale": True, "noise": 1, "clamp": None},
    "bias alone": {"scale": False, "noise": 0, "clamp": 0.7},
}


def _inputs(case: dict[str, Any], *, dtype: torch.dtype = torch.float32) -> list[Tensor | None]:
    torch.manual_seed(0)
    x = torch.randn(3, 5, 6, 7, dtype=dtype).contiguous(memory_format=torch.channels_last)
    scale = torch.rand(3, 5, dtype=dtype) + 0.5 if case["scale"] else None
    noise = torch.randn(case["noise"], 1, 6, 7, dtype=dtype) if case["noise"] else None
    inputs = [x, torch.randn(5, dtype=dtype), scale, noise]
    return [value if value is None else value.requires_grad_() for value in inputs]


def _activate(inputs: list[Tensor | None], clamp: float | None, backend: Backend) -> Tensor:
    x, bias, scale, noise = inputs
    assert x is not None
    return bias_act(
        x, bias, scale=scale, noise=noise, activation="lrelu", gain=0.7, clamp=clamp, leaky_slope=0.3, backend=backend
    )


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_numba_has_torchs_values_and_gradients(case: dict[str, Any]) -> None:
    inputs = _inputs(case)
    wanted = [value for value in inputs if value is not None]
    weights = torch.randn(3, 5, 6, 7)
    found, expected = (_activate(inputs, case["clamp"], backend) for backend in ("numba", "torch"))
    assert torch.equal(found, expected)
    assert found.is_contiguous(memory_format=torch.channels_last)
    for one, other in zip(
        *(torch.autograd.grad((result * weights).sum(), wanted) for result in (found, expected)), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_second_derivatives_are_those_of_torch(case: dict[str, Any]) -> None:
    inputs = _inputs(case)
    wanted = [value for value in inputs if value is not None]

    def penalty(backend: Backend) -> Tensor:
        loss = _activate(inputs, case["clamp"], backend).pow(3).sum()
        gradients = torch.autograd.grad(loss, wanted, create_graph=True)
        return torch.stack([gradient.square().sum() for gradient in gradients]).sum()

    for one, other in zip(
        *(torch.autograd.grad(penalty(backend), wanted) for backend in ("numba", "torch")), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))


def test_the_definition_has_the_right_gradient() -> None:
    inputs = [value for value in _inputs(CASES["all"], dtype=torch.float64) if value is not None]

    def define(x: Tensor, bias: Tensor, scale: Tensor, noise: Tensor) -> Tensor:
        return _activate([x, bias, scale, noise], 1.5, "torch")

    assert torch.autograd.gradcheck(define, inputs)


def test_what_is_no_number_stays_so() -> None:
    x = torch.full((1, 1, 1, 2), torch.nan).contiguous(memory_format=torch.channels_last)
    assert bias_act(x, torch.zeros(1), activation="lrelu", clamp=1.0, backend="numba").isnan().all()


def test_numba_is_refused_where_it_does_not_fit() -> None:
    with pytest.raises(ValueError, match="channels last"):
        bias_act(torch.zeros(2, 3, 4, 4), torch.zeros(3), activation="lrelu", backend="numba")
    with pytest.raises(ValueError, match="lrelu"):
        bias_act(torch.zeros(2, 1, 1, 1), torch.zeros(1), backend="numba")
