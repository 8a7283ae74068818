"""Resampling, activations and modulated convolutions by their mathematics."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from portrait4d.ops.activation import Activation, bias_act, default_gain
from portrait4d.ops.convolution import modulated_conv, resampling_conv
from portrait4d.ops.resample import (
    Padding,
    downsample,
    filter_same,
    fir_resample,
    make_filter,
    resize,
    upsample,
)

SMOOTH: list[Activation] = ["linear", "tanh", "sigmoid", "softplus", "swish"]


def _randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_filter_has_unit_sum_and_is_symmetric() -> None:
    kernel = make_filter()
    assert float(kernel.sum()) == pytest.approx(1.0)
    assert torch.equal(kernel, kernel.flip(0)) and torch.equal(kernel, kernel.T)


def test_resampling_keeps_a_constant_picture() -> None:
    x, kernel = torch.full((1, 2, 12, 16), 3.0, dtype=torch.float64), make_filter()
    up, down = upsample(x, kernel), downsample(x, kernel)
    assert up.shape == (1, 2, 24, 32) and down.shape == (1, 2, 6, 8)
    inside = (slice(None), slice(None), slice(2, -2), slice(2, -2))
    assert torch.allclose(up[inside], torch.full_like(up[inside], 3.0))
    assert torch.allclose(down[inside], torch.full_like(down[inside], 3.0))


def test_resampling_keeps_a_ramp_in_its_place() -> None:
    """Pixel centres at halves: enlarging a ramp gives the ramp at the new centres."""
    x = torch.arange(16.0, dtype=torch.float64) + 0.5
    picture = x.expand(1, 1, 16, 16)
    up = upsample(picture, make_filter())[0, 0, 16, 4:-4]
    assert torch.allclose(up, (torch.arange(32.0, dtype=torch.float64) + 0.5)[4:-4] / 2)
    down = downsample(picture, make_filter())[0, 0, 4, 1:-1]
    assert torch.allclose(down, ((torch.arange(8.0, dtype=torch.float64) + 0.5) * 2)[1:-1])


def test_an_asymmetric_filter_is_mirrored_unless_correlation_is_asked_for() -> None:
    impulse = torch.zeros(1, 1, 5, 5, dtype=torch.float64)
    impulse[..., 2, 2] = 1
    kernel = _randn(3, 3)
    border = Padding(1, 1, 1, 1)
    assert torch.allclose(fir_resample(impulse, kernel, padding=border)[0, 0, 1:4, 1:4], kernel)
    mirrored = fir_resample(impulse, kernel, padding=border, is_correlation=True)
    assert torch.allclose(mirrored[0, 0, 1:4, 1:4], kernel.flip([0, 1]))


def test_zeros_go_after_the_pixel_and_both_axes_are_their_own() -> None:
    x = torch.tensor([[[[1.0, 2.0]]]])
    one = torch.ones(1, 1)
    assert fir_resample(x, one, up=(1, 3)).flatten().tolist() == [1, 0, 0, 2, 0, 0]
    assert fir_resample(x, one, up=(2, 1)).tolist() == [[[[1, 2], [0, 0]]]]
    assert fir_resample(x, one, padding=Padding(right=1, left=-1)).flatten().tolist() == [2, 0]


def test_negative_padding_cuts_and_the_gain_multiplies() -> None:
    x = _randn(1, 1, 4, 4)
    cut = fir_resample(x, torch.ones(1, 1), padding=Padding(-1, -1, -1, -1), gain=2.0)
    assert torch.equal(cut, 2 * x[..., 1:3, 1:3])


def test_a_separable_filter_equals_its_square() -> None:
    x, taps = _randn(2, 3, 9, 8), _randn(5, seed=1)
    assert torch.allclose(filter_same(x, taps), filter_same(x, taps[:, None] * taps[None, :]))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_resampling_does_not_depend_on_the_memory_format(memory_format: torch.memory_format) -> None:
    x, kernel = _randn(2, 8, 6, 6), make_filter()
    stored = x.contiguous(memory_format=memory_format)
    assert torch.allclose(upsample(stored, kernel), upsample(x, kernel))
    assert torch.allclose(downsample(stored, kernel), downsample(x, kernel))


def test_blended_antialiasing_lies_between_both() -> None:
    x = _randn(1, 1, 16, 16)
    plain, soft = (resize(x, height=4, width=4, antialias=value) for value in (0.0, 1.0))
    assert torch.allclose(resize(x, height=4, width=4, antialias=0.25), 0.75 * plain + 0.25 * soft)
    with pytest.raises(ValueError, match=r"antialias must be in \[0, 1\]"):
        resize(x, height=4, width=4, antialias=2.0)


@pytest.mark.parametrize("activation", ["relu", "lrelu", "swish"])
def test_gains_keep_the_mean_square(activation: Activation) -> None:
    x = torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    energy = float((bias_act(x[None], activation=activation)).square().mean())
    expected = {"relu": 1.0, "lrelu": 1.04, "swish": 0.71}[activation]
    assert energy == pytest.approx(expected, abs=0.02)


def test_bias_activation_gain_clamp_in_that_order() -> None:
    x, bias = _randn(2, 3, 4), _randn(3, seed=1)
    expected = (F.leaky_relu(x + bias[:, None], 0.2) * math.sqrt(2) * 0.5).clamp(-0.3, 0.3)
    assert torch.equal(bias_act(x, bias, activation="lrelu", gain=0.5, clamp=0.3), expected)
    assert default_gain("linear") == 1.0
    with pytest.raises(ValueError, match="activation must be one of"):
        bias_act(x, activation="gelu")  # pyright: ignore[reportArgumentType]


def test_overwriting_happens_only_when_allowed_and_changes_nothing() -> None:
    x, bias = _randn(2, 3, 4), _randn(3, seed=1)
    kept = x.clone()
    expected = bias_act(x, bias, activation="lrelu", clamp=1.0)
    with torch.no_grad():
        assert torch.equal(bias_act(x, bias, activation="lrelu", clamp=1.0), expected)
        assert torch.equal(x, kept)
        assert torch.equal(bias_act(x, bias, activation="lrelu", clamp=1.0, may_overwrite=True), expected)
        assert not torch.equal(x, kept)


@pytest.mark.parametrize("activation", SMOOTH)
def test_bias_act_gradients(activation: Activation) -> None:
    x, bias = _randn(2, 3, 4).requires_grad_(), _randn(3, seed=1).requires_grad_()

    def function(x: Tensor, bias: Tensor) -> Tensor:
        return bias_act(x, bias, activation=activation, gain=0.7, may_overwrite=True)

    assert gradcheck(function, (x, bias)) and gradgradcheck(function, (x, bias))


@pytest.mark.parametrize(("up", "down", "size"), [(1, 1, 3), (2, 1, 3), (1, 2, 3), (2, 1, 1), (1, 2, 1)])
def test_convolutions_that_resample_equal_their_steps(up: int, down: int, size: int) -> None:
    x, weight, kernel = _randn(2, 3, 6, 8), _randn(4, 3, size, size, seed=1), make_filter().double()
    found = resampling_conv(x, weight, kernel=kernel, up=up, down=down)
    if (up, down) == (1, 1):
        expected = F.conv2d(x, weight, padding=1)
    elif up == 2:  # zeros, convolution, filter
        spread = torch.zeros(2, 3, 12, 16, dtype=torch.float64)
        spread[:, :, ::2, ::2] = x
        spread = F.pad(spread, (size - 1, size - 1, size - 1, size - 1))
        before, after = (1, 1) if size == 3 else (2, 1)
        expected = fir_resample(F.conv2d(spread, weight), kernel, padding=Padding(*(before, after) * 2), gain=4.0)[
            :, :, :12, :16
        ]
    else:  # filter, convolution, every second pixel
        border = 1 + size // 2
        soft = fir_resample(x, kernel, padding=Padding(border, border, border, border))
        expected = F.conv2d(soft, weight)[:, :, ::2, ::2]
    assert found.shape == expected.shape
    assert torch.allclose(found, expected)


@pytest.mark.parametrize(("up", "size", "is_demodulated"), [(1, 3, True), (2, 3, True), (1, 1, False)])
def test_modulation_is_a_convolution_of_each_picture_with_its_own_weight(
    up: int, size: int, is_demodulated: bool
) -> None:
    x, weight, styles = _randn(3, 4, 5, 5), _randn(6, 4, size, size, seed=1), _randn(3, 4, seed=2)
    kernel = make_filter().double()
    for is_fused in (True, False, None):
        found = modulated_conv(
            x, weight, styles, kernel=kernel, up=up, is_demodulated=is_demodulated, is_fused=is_fused
        )
        for index in range(3):
            own = weight * styles[index][None, :, None, None]
            if is_demodulated:
                own = own / own.flatten(1).norm(dim=1)[:, None, None, None]
            expected = resampling_conv(x[index : index + 1], own, kernel=kernel, up=up, is_correlation=up == 1)
            assert torch.allclose(found[index : index + 1], expected, atol=1e-6)


def test_demodulation_gives_unit_variance_and_ignores_the_size_of_styles() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 64, 32, 32, generator=generator)
    weight, styles = torch.randn(64, 64, 3, 3, generator=generator), torch.randn(1, 64, generator=generator)
    out = modulated_conv(x, weight, styles)
    assert float(out[..., 1:-1, 1:-1].std()) == pytest.approx(1.0, abs=0.05)
    assert torch.allclose(modulated_conv(x, weight, 100 * styles), out, atol=1e-4)


def test_half_precision_factors_cancel() -> None:
    """What fp16 takes out of weight and style beforehand, demodulation would take out anyway."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 8, 6, 6, generator=generator)
    weight, styles = torch.randn(5, 8, 3, 3, generator=generator), 30 * torch.randn(1, 8, generator=generator)
    single = modulated_conv(x, weight * 1000, styles)
    half = modulated_conv(x.half(), weight * 1000, styles)
    assert half.dtype == torch.float16 and half.isfinite().all()
    assert torch.allclose(half.float(), single, atol=2e-2)


@pytest.mark.slow
@pytest.mark.parametrize(("up", "is_fused"), [(1, True), (1, False), (2, True), (2, False)])
def test_modulated_convolution_gradients(up: int, is_fused: bool) -> None:
    kernel = make_filter().double()

    def function(x: Tensor, weight: Tensor, styles: Tensor) -> Tensor:
        return modulated_conv(x, weight, styles, kernel=kernel, up=up, is_fused=is_fused)

    inputs = (
        _randn(2, 2, 3, 3).requires_grad_(),
        _randn(2, 2, 3, 3, seed=1).requires_grad_(),
        _randn(2, 2, seed=2).requires_grad_(),
    )
    assert gradcheck(function, inputs) and gradgradcheck(function, inputs)


def test_bad_shapes_are_named() -> None:
    with pytest.raises(ValueError, match=r"styles must be \[2, 4\], got \(2, 3\)"):
        modulated_conv(_randn(2, 4, 3, 3), _randn(5, 4, 3, 3), _randn(2, 3))
    with pytest.raises(ValueError, match="needs the FIR filter"):
        resampling_conv(_randn(1, 1, 4, 4), _randn(1, 1, 3, 3), up=2)
    with pytest.raises(ValueError, match="expected a 1x1 or 3x3 weight"):
        resampling_conv(_randn(1, 1, 4, 4), _randn(1, 1, 5, 5))
