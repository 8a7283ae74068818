"""The compiled decoder against torch's: values and gradients."""

import pytest
import torch
from torch import Tensor

from portrait4d.ops.compiled import Backend
from portrait4d.render.decode import Layer, decode


def _layers(num_rows: int, channels: int, hidden: int, colours: int, *, dtype: torch.dtype) -> list[Tensor]:
    torch.manual_seed(0)
    shapes = [(num_rows, channels), (hidden, channels), (hidden,), (1, hidden), (1,), (colours, hidden), (colours,)]
    scales = [
        3.0,
        1.0,
        1.0,
        hidden**-0.5,
        1.0,
        hidden**-0.5,
        1.0,
    ]  # rows far from zero, too, where softplus is straight
    made = [scale * torch.randn(shape, dtype=dtype) for scale, shape in zip(scales, shapes, strict=True)]
    return [value.requires_grad_() for value in made]


def _decode(rows: Tensor, *layers: Tensor, backend: Backend = "torch") -> tuple[Tensor, Tensor]:
    first, density, colour = (Layer(*layers[start : start + 2]) for start in (0, 2, 4))
    return decode(rows, first, density, colour, backend=backend)


def _loss(density: Tensor, colours: Tensor) -> Tensor:
    return (density.sin() + 0.1 * density).sum() + (colours * torch.arange(1.0, 1 + colours.shape[1])).square().sum()


@pytest.mark.parametrize(
    ("num_rows", "channels", "hidden", "colours"), [(5000, 8, 32, 8), (70, 32, 64, 32), (1, 4, 4, 1)]
)
def test_numba_equals_torch_in_double_precision(num_rows: int, channels: int, hidden: int, colours: int) -> None:
    tensors = _layers(num_rows, channels, hidden, colours, dtype=torch.float32)
    exact = [value.detach().double().requires_grad_() for value in tensors]
    found, expected = _decode(*tensors, backend="numba"), _decode(*exact, backend="torch")
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5)
    found = torch.autograd.grad(_loss(*found), tensors)
    expected = torch.autograd.grad(_loss(*expected), exact)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=2e-5 * float(other.abs().max()))


def test_extreme_rows_give_what_torch_gives() -> None:
    tensors = _layers(3, 4, 4, 3, dtype=torch.float32)
    tensors[0] = torch.tensor([[1e4] * 4, [-1e4] * 4, [0.0] * 4])
    for one, other in zip(_decode(*tensors, backend="numba"), _decode(*tensors, backend="torch"), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("used", [0, 1])
def test_weights_of_an_unused_result_get_no_gradient(used: int) -> None:
    tensors = _layers(9, 4, 8, 3, dtype=torch.float32)
    found, expected = (
        torch.autograd.grad(_decode(*tensors, backend=backend)[used].sum(), tensors, allow_unused=True)
        for backend in ("numba", "torch")
    )
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert sum(one is None for one in found) == 2


def test_the_definition_has_the_right_gradient() -> None:
    assert torch.autograd.gradcheck(_decode, _layers(3, 4, 4, 2, dtype=torch.float64))


def test_second_derivatives_are_those_of_torch() -> None:
    tensors = _layers(7, 4, 8, 2, dtype=torch.float32)

    def penalty(backend: Backend) -> Tensor:
        loss = _loss(*_decode(*tensors, backend=backend))
        return torch.stack([x.square().sum() for x in torch.autograd.grad(loss, tensors, create_graph=True)]).sum()

    found, expected = (torch.autograd.grad(penalty(backend), tensors) for backend in ("numba", "torch"))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))


def test_numba_is_refused_where_it_does_not_fit() -> None:
    with pytest.raises(ValueError, match="multiples of 4"):
        _decode(*_layers(3, 5, 4, 2, dtype=torch.float32), backend="numba")
    with pytest.raises(ValueError, match="float32"):
        _decode(*_layers(3, 4, 4, 2, dtype=torch.float64), backend="numba")
