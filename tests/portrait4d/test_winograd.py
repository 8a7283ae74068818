"""Winograd's convolution against torch's, and where it must not be taken."""

import pytest
import torch
import torch.nn.functional as F

from portrait4d.ops.winograd import Convolution3x3, conv3x3


def _material(batch: int, channels: int, count: int, height: int, width: int) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    weight = torch.randn(count, channels, 3, 3) / (9 * channels) ** 0.5
    return torch.randn(batch, channels, height, width), weight, torch.randn(count)


@pytest.mark.parametrize("size", [(1, 16, 32, 4, 4), (2, 64, 96, 37, 42), (1, 352, 16, 8, 130), (1, 32, 16, 1, 3)])
@pytest.mark.parametrize("threads", [1, 2])
def test_equals_torch_in_double_precision(size: tuple[int, ...], threads: int) -> None:
    x, weight, bias = _material(*size)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.no_grad():
            found = conv3x3(x, weight, bias, backend="winograd")
            plain = conv3x3(x, weight, backend="winograd")
    finally:
        torch.set_num_threads(before)
    expected = F.conv2d(x.double(), weight.double(), bias.double(), padding=1)
    assert (found - expected).square().mean().sqrt() <= 1.5e-6 * expected.std()
    assert (found - expected).abs().max() <= 2e-5 * expected.std()
    torch.testing.assert_close(plain + bias[:, None, None], found, rtol=0, atol=1e-5)


def test_auto_takes_it_only_without_gradients() -> None:
    x, weight, bias = _material(1, 64, 64, 32, 32)
    exact = F.conv2d(x, weight, bias, padding=1)
    assert torch.equal(conv3x3(x, weight, bias), exact)
    with torch.no_grad():
        assert not torch.equal(conv3x3(x, weight, bias), exact)
        assert torch.equal(conv3x3(x, weight, bias, backend="torch"), exact)
        assert conv3x3(x.double(), weight.double()).dtype == torch.float64


def test_module_learns_as_a_convolution() -> None:
    layer = Convolution3x3(64, 64)
    layer(torch.randn(1, 64, 32, 32)).sum().backward()
    assert layer.weight.grad is not None and layer.weight.grad.abs().sum() > 0


def test_refuses_what_it_cannot_do() -> None:
    x, weight, bias = _material(1, 16, 16, 8, 8)
    with pytest.raises(ValueError, match="without gradients"):
        conv3x3(x, weight, bias, backend="winograd")
    with torch.no_grad(), pytest.raises(ValueError, match="multiples of 16"):
        conv3x3(x[:, :10], weight[:, :10], bias, backend="winograd")
    with pytest.raises(ValueError, match="backend must be"):
        conv3x3(x, weight, backend="fast")  # pyright: ignore[reportArgumentType]
