"""Convolutions that change the resolution, and convolutions whose weights a style scales.

StyleGAN2 (Karras et al. 2020), section 2.2, equations 1 to 3, and appendix B; fp16 pre-normalisation: StyleGAN2-ADA,
appendix D.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from portrait4d.ops.resample import Padding, fir_resample, upsample
from portrait4d.ops.winograd import conv3x3

_EPSILON = 1e-8


def resampling_conv(
    x: Tensor,
    weight: Tensor,
    *,
    kernel: Tensor | None = None,
    up: int = 1,
    down: int = 1,
    is_correlation: bool = True,
    groups: int = 1,
) -> Tensor:
    """Convolution that keeps, doubles or halves the size, with a FIR filter against aliasing.

    Args:
        x: `[B, C, H, W]`.
        weight: `[D, C / groups, k, k]`, k = 1 or 3.
        kernel: FIR filter `[4, 4]` with unit sum, needed when the size changes.
        up: 1 or 2.
        down: 1 or 2; not together with `up`.
        is_correlation: False mirrors the weight, as a convolution in the strict sense does.
        groups: of channels, each with its own weights.

    Returns:
        `[B, D, H * up / down, W * up / down]`.
    """
    size = weight.shape[-1]
    if size not in (1, 3) or (up, down) not in ((1, 1), (2, 1), (1, 2)):
        raise ValueError(f"expected a 1x1 or 3x3 weight and one of up=2, down=2; got {size}x{size}, {up=}, {down=}")
    if (up, down) == (1, 1):
        weight = weight if is_correlation or size == 1 else weight.flip([2, 3])
        if size == 3 and groups == 1:
            return conv3x3(x, weight)
        if size == 1 and groups == 1:
            return _conv1x1(x, weight)
        return F.conv2d(x, weight, padding=size // 2, groups=groups)
    if kernel is None:
        raise ValueError("a convolution that changes the size needs the FIR filter `kernel`")
    if down == 2:
        weight = weight if is_correlation or size == 1 else weight.flip([2, 3])
        return _down(x, weight, kernel, groups)
    return _up(x, weight, kernel, is_correlation, groups)


def _conv1x1(x: Tensor, weight: Tensor) -> Tensor:
    """A product of matrices where channels lie last on a CPU: torch's own convolution reorders the picture twice."""
    is_last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    if x.device.type != "cpu" or not is_last:
        return F.conv2d(x, weight)
    return F.linear(x.permute(0, 2, 3, 1), weight[:, :, 0, 0]).permute(0, 3, 1, 2)


def _down(x: Tensor, weight: Tensor, kernel: Tensor, groups: int) -> Tensor:
    if weight.shape[-1] == 1:
        small = fir_resample(x, kernel, down=(2, 2), padding=Padding(1, 1, 1, 1))
        return _conv1x1(small, weight) if groups == 1 else F.conv2d(small, weight, groups=groups)
    return F.conv2d(fir_resample(x, kernel, padding=Padding(2, 2, 2, 2)), weight, stride=2, groups=groups)


def _up(x: Tensor, weight: Tensor, kernel: Tensor, is_correlation: bool, groups: int) -> Tensor:
    if weight.shape[-1] == 1:
        return upsample(F.conv2d(x, weight, groups=groups), kernel)
    # A transposed convolution applies the weight unmirrored, which is a convolution of the zero-spaced picture.
    weight = weight.flip([2, 3]) if is_correlation else weight
    # [D, C / groups, k, k] to [C, D / groups, k, k]
    weight = weight.transpose(0, 1) if groups == 1 else weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
    spread = F.conv_transpose2d(x, weight, stride=2, groups=groups)
    return fir_resample(spread, kernel, padding=Padding(1, 1, 1, 1), gain=4.0)


def modulated_conv(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    *,
    kernel: Tensor | None = None,
    up: int = 1,
    is_demodulated: bool = True,
    is_fused: bool | None = None,
) -> Tensor:
    """Convolution whose weight is scaled per input channel by a style, and per output channel back to unit norm.

    Args:
        x: `[B, C, H, W]`.
        weight: `[D, C, k, k]`.
        styles: `[B, C]`.
        kernel: FIR filter for `up=2`.
        up: 1, or 2 to double the size.
        is_demodulated: scale each output channel's weight to unit norm (equation 3).
        is_fused: scale the weight (True) or the signals around a shared convolution (False); equal up to rounding.
            None takes whichever is faster: the weight for a single picture, else the signals.

    Returns:
        `[B, D, H * up, W * up]`.
    """
    x, scale = modulated_parts(
        x, weight, styles, kernel=kernel, up=up, is_demodulated=is_demodulated, is_fused=is_fused
    )
    return x if scale is None else x * scale.to(x.dtype)[:, :, None, None]


def modulated_parts(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    *,
    kernel: Tensor | None = None,
    up: int = 1,
    is_demodulated: bool = True,
    is_fused: bool | None = None,
) -> tuple[Tensor, Tensor | None]:
    """As `modulated_conv`, with what is left to multiply it by, `[B, D]` or None; `bias_act` does it on its way."""
    batch = len(x)
    if styles.shape != (batch, weight.shape[1]):
        raise ValueError(f"styles must be [{batch}, {weight.shape[1]}], got {tuple(styles.shape)}")
    if x.dtype == torch.float16 and is_demodulated:
        weight, styles = _shrink_for_half(weight, styles)
    scale = _demodulation(weight, styles) if is_demodulated else None
    is_correlation = up == 1
    if is_fused is None:
        is_fused = batch == 1
    if not is_fused:
        x = x * styles.to(x.dtype)[:, :, None, None]
        return resampling_conv(x, weight.to(x.dtype), kernel=kernel, up=up, is_correlation=is_correlation), scale
    scaled = weight * styles[:, None, :, None, None]
    if scale is not None:
        scaled = scaled * scale[:, :, None, None, None]
    scaled = scaled.flatten(0, 1).to(x.dtype)
    if batch == 1:  # also keeps the memory format, which a reshape would lose
        return resampling_conv(x, scaled, kernel=kernel, up=up, is_correlation=is_correlation), None
    x = resampling_conv(
        x.reshape(1, -1, *x.shape[2:]), scaled, kernel=kernel, up=up, is_correlation=is_correlation, groups=batch
    )
    return x.reshape(batch, -1, *x.shape[2:]), None


def channels_last(x: Tensor) -> Tensor:
    """Lays a pixel's channels side by side on a CPU, where convolutions then take less time."""
    return x.contiguous(memory_format=torch.channels_last) if x.device.type == "cpu" else x


def _demodulation(weight: Tensor, styles: Tensor) -> Tensor:
    """One over the norm of each output channel's scaled weight, `[B, D]`, without building that weight."""
    return (styles.square() @ weight.square().sum([2, 3]).T + _EPSILON).rsqrt()


def _shrink_for_half(weight: Tensor, styles: Tensor) -> tuple[Tensor, Tensor]:
    """Factors that demodulation cancels, taken out before they overflow fp16."""
    fan_in = weight[0].numel()
    weight = weight / (fan_in**0.5 * weight.abs().amax([1, 2, 3], keepdim=True))
    return weight, styles / styles.abs().amax(1, keepdim=True)
