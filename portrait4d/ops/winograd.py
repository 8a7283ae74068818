"""3x3 convolutions with a quarter of the multiplications (Winograd's F(4x4, 3x3); Lavin and Gray 2016, section 4.3).

Torch's convolution defines the result. On a CPU, in float32 and where no gradient is wanted, the picture is cut into
6x6 tiles that overlap by two pixels; after the transform, each of a tile's 36 places is a product of matrices over the
channels. Working in strips of tiles keeps the intermediate values in the cache.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from portrait4d.ops.compiled import can_compile, split_range

Backend = Literal["auto", "torch", "winograd"]

_TILES_AT_ONCE = 128
_LANES = 16
"""The same number as in `winograd_numba`, which is loaded at first use."""

_MIN_CHANNELS, _MIN_PIXELS = 64, 32**2
"""Sizes below which torch is as fast."""


class Convolution3x3(nn.Conv2d):
    """A `nn.Conv2d` with a 3x3 kernel that keeps the picture's size and computes through `conv3x3`."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1)

    def forward(self, input: Tensor) -> Tensor:  # noqa: D102
        return conv3x3(input, self.weight, self.bias)


def conv3x3(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, backend: Backend = "auto") -> Tensor:
    """Convolves with stride 1 and a border of zeros.

    Args:
        x: `[B, C, H, W]`.
        weight: `[D, C, 3, 3]`.
        bias: `[D]`.
        backend: "torch" defines the result. "winograd" needs float32 on a CPU, multiples of 16 channels and no
            gradients; it differs by 1e-6 of the result's standard deviation in the root mean square, by 1e-5 at most.
            "auto" takes it where it is faster.

    Returns:
        `[B, D, H, W]`.
    """
    if backend not in ("auto", "torch", "winograd"):
        raise ValueError(f"backend must be 'auto', 'torch' or 'winograd', got {backend!r}")
    if backend == "winograd" and not _fits(x, weight):
        raise ValueError(
            f"backend 'winograd' needs float32 on the CPU without gradients and multiples of {_LANES} channels; got "
            f"{x.dtype} on {x.device}, weight {tuple(weight.shape)}"
        )
    if backend == "winograd" or (backend == "auto" and _fits(x, weight) and _is_large(x, weight)):
        return _winograd(x, weight, bias)
    return F.conv2d(x, weight, bias, padding=1)


def _fits(x: Tensor, weight: Tensor) -> bool:
    return can_compile(x, weight) and all(channels % _LANES == 0 for channels in weight.shape[:2])


def _is_large(x: Tensor, weight: Tensor) -> bool:
    return min(weight.shape[:2]) >= _MIN_CHANNELS and x.shape[2] * x.shape[3] >= _MIN_PIXELS


def _winograd(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    from portrait4d.ops.winograd_numba import from_tiles, to_tiles

    batch, channels, height, width = x.shape
    count = len(weight)
    factors = _transform(weight)
    offset = (weight.new_zeros(count) if bias is None else bias).contiguous().numpy()
    result = x.new_empty((batch, height, width, count))
    rows, across = -(-height // 4), -(-width // 4)
    num_threads = torch.get_num_threads()
    step = min(max(num_threads * _TILES_AT_ONCE // across, 1), rows)
    spread, product = (x.new_empty(36 * step * across * number) for number in (channels, count))
    with ThreadPoolExecutor(num_threads) if num_threads > 1 else nullcontext() as pool:
        for picture, drawn in zip(x.permute(0, 2, 3, 1).contiguous().numpy(), result.numpy(), strict=True):
            for first in range(0, rows, step):
                tiles = min(step, rows - first) * across
                tile = spread[: 36 * tiles * channels].view(36, tiles, channels)
                summed = product[: 36 * tiles * count].view(36, tiles, count)
                split_range(tiles, to_tiles, picture, tile.numpy(), first, pool=pool)
                torch.bmm(tile, factors, out=summed)
                split_range(tiles, from_tiles, summed.numpy(), offset, drawn, first, pool=pool)
    return result.permute(0, 3, 1, 2)


def _transform(weight: Tensor) -> Tensor:
    """Computes `G g G^T` of each kernel, `[36, C, D]`, in a hundredth of the convolution's time: nothing is cached."""
    from portrait4d.ops.winograd_numba import kernel_points

    line = torch.from_numpy(kernel_points())
    rows = weight.permute(2, 3, 1, 0).reshape(9, -1)
    return (torch.kron(line, line) @ rows).view(36, weight.shape[1], weight.shape[0])
