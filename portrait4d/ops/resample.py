"""Up- and down-sampling with a small FIR filter (StyleGAN2, section 4.1), and the resizing of pictures."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

BINOMIAL_TAPS = (1.0, 3.0, 3.0, 1.0)
"""The only filter of the released networks."""


class Padding(NamedTuple):
    """Pixels added around a picture; negative numbers remove pixels."""

    left: int = 0
    right: int = 0
    top: int = 0
    bottom: int = 0


NO_PADDING = Padding()


def make_filter(taps: tuple[float, ...] = BINOMIAL_TAPS, *, like: Tensor | None = None) -> Tensor:
    """Two-dimensional filter `[N, N]` with unit sum, the outer product of `taps`, with dtype and device of `like`."""
    dtype, device = (torch.float32, None) if like is None else (like.dtype, like.device)
    line = torch.tensor(taps, dtype=dtype, device=device)
    square = line[:, None] * line[None, :]
    return square / square.sum()


def fir_resample(
    x: Tensor,
    kernel: Tensor,
    *,
    up: tuple[int, int] = (1, 1),
    down: tuple[int, int] = (1, 1),
    padding: Padding = NO_PADDING,
    gain: float = 1.0,
    is_correlation: bool = False,
) -> Tensor:
    """Inserts zeros, pads, filters and keeps every n-th pixel.

    Args:
        x: `[B, C, H, W]`.
        kernel: `[h, w]`.
        up: pixels that one pixel becomes, (vertical, horizontal): itself first, then zeros.
        down: stride, (vertical, horizontal).
        padding: applied after the zeros are inserted.
        gain: multiplies the result.
        is_correlation: apply the kernel as it stands instead of mirrored.
    """
    if up != (1, 1):
        x = _insert_zeros(x, *up)
    border = (0, 0)
    if padding.left == padding.right >= 0 and padding.top == padding.bottom >= 0:
        border = (padding.top, padding.left)  # the convolution pads without a copy
    elif padding != NO_PADDING:
        x = F.pad(x, padding)
    weight = (kernel if is_correlation else kernel.flip([0, 1])).to(x) * gain
    channels = x.shape[1]
    return F.conv2d(x, weight.expand(channels, 1, *weight.shape), stride=down, padding=border, groups=channels)


def upsample(x: Tensor, kernel: Tensor, *, factor: int = 2) -> Tensor:
    """Enlarges `[B, C, H, W]` to `[B, C, H * factor, W * factor]`; the brightness stays."""
    height, width = kernel.shape
    border = (height - factor) // 2, (width - factor) // 2
    if x.device.type == "cpu" and min(border) >= 0 and (height - factor) % 2 == 0 == (width - factor) % 2:
        return _spread(x, kernel * factor**2, factor, border)
    padding = Padding((width + factor - 1) // 2, border[1], (height + factor - 1) // 2, border[0])
    return fir_resample(x, kernel, up=(factor, factor), padding=padding, gain=factor * factor)


def _spread(x: Tensor, kernel: Tensor, factor: int, border: tuple[int, int]) -> Tensor:
    """Each pixel spreads the filter, which takes a quarter of the time of filtering a picture full of zeros."""
    channels = x.shape[1]
    weight = kernel.to(x).expand(channels, 1, *kernel.shape)
    return F.conv_transpose2d(x, weight, stride=factor, padding=border, groups=channels)


def downsample(x: Tensor, kernel: Tensor, *, factor: int = 2) -> Tensor:
    """Shrinks `[B, C, H, W]` to `[B, C, H / factor, W / factor]`."""
    height, width = kernel.shape
    padding = Padding(
        (width - factor + 1) // 2, (width - factor) // 2, (height - factor + 1) // 2, (height - factor) // 2
    )
    return fir_resample(x, kernel, down=(factor, factor), padding=padding)


def filter_same(x: Tensor, kernel: Tensor) -> Tensor:
    """Filters a picture and keeps its size, with zeros outside.

    Args:
        x: `[B, C, H, W]`.
        kernel: `[h, w]`, or `[n]` for the same filter along both axes (cheaper when it is long).
    """
    if kernel.ndim == 1:
        return filter_same(filter_same(x, kernel[:, None]), kernel[None, :])
    height, width = kernel.shape
    return fir_resample(x, kernel, padding=Padding(width // 2, (width - 1) // 2, height // 2, (height - 1) // 2))


def resize(x: Tensor, *, height: int, width: int, antialias: float = 1.0) -> Tensor:
    """Resizes a picture bilinearly; pixel centres lie at halves.

    Args:
        x: `[B, C, H, W]`.
        height: of the result.
        width: of the result.
        antialias: 1 widens the filter when shrinking, 0 does not; a number in between blends both.
    """
    if not 0.0 <= antialias <= 1.0:
        raise ValueError(f"antialias must be in [0, 1], got {antialias}")

    def interpolated(is_antialiased: bool) -> Tensor:
        # the antialiased kernel of the CPU has no half types
        source = x.float() if is_antialiased and x.dtype in (torch.bfloat16, torch.float16) else x
        found = F.interpolate(source, (height, width), mode="bilinear", align_corners=False, antialias=is_antialiased)
        return found.to(x.dtype)

    if antialias in (0.0, 1.0):
        return interpolated(bool(antialias))
    return torch.lerp(interpolated(False), interpolated(True), antialias)


def resize_with_fir(x: Tensor, kernel: Tensor, *, size: int) -> Tensor:
    """Resizes to a square by way of the double size, filtered before and after (StyleGAN2-ADA's augmentation warp)."""
    x = resize(upsample(x, kernel), height=2 * size + 2, width=2 * size + 2, antialias=0.0)
    height, width = kernel.shape
    padding = Padding((width - 1) // 2 - 1, (width - 2) // 2 - 1, (height - 1) // 2 - 1, (height - 2) // 2 - 1)
    return fir_resample(x, kernel, down=(2, 2), padding=padding, is_correlation=True)


def _insert_zeros(x: Tensor, vertical: int, horizontal: int) -> Tensor:
    batch, channels, height, width = x.shape
    is_last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    spread = torch.empty(
        (batch, channels, height * vertical, width * horizontal),
        dtype=x.dtype,
        device=x.device,
        memory_format=torch.channels_last if is_last else torch.contiguous_format,
    ).zero_()
    spread[:, :, ::vertical, ::horizontal] = x
    return spread
