"""How much each sample of a ray counts in the picture, whatever the order in which the samples come."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from portrait4d.ops.compiled import Backend, can_compile, differentiable_gradients, split_range, takes_compiled

_TRANSMITTANCE_FLOOR = 1e-10
_FLOOR = np.float32(_TRANSMITTANCE_FLOOR)


class Shares(NamedTuple):
    """What `sample_shares` gives.

    Attributes:
        depths: `[B, R, K]`, ascending.
        weights: `[B, R, K - 1]` of the intervals between ascending samples.
        shares: `[B, R, K]` of the samples as they came.
    """

    depths: Tensor
    weights: Tensor
    shares: Tensor


def interval_weights(depths: Tensor, densities: Tensor) -> Tensor:
    """Weight of each interval between samples in the picture.

    `alpha = 1 - exp(-softplus(sigma - 1) * length)` with the mean raw density `sigma` of both ends, times the
    transmittance of the intervals before.

    Args:
        depths: `[..., K]`, ascending.
        densities: `[..., K]`, raw.

    Returns:
        `[..., K - 1]`.
    """
    lengths = depths[..., 1:] - depths[..., :-1]
    density = F.softplus(0.5 * (densities[..., :-1] + densities[..., 1:]) - 1.0)
    passed = torch.exp(-density * lengths)
    alpha = 1.0 - passed
    shifted = torch.cat([torch.ones_like(alpha[..., :1]), 1.0 - alpha[..., :-1] + _TRANSMITTANCE_FLOOR], -1)
    return alpha * shifted.cumprod(-1)


def sample_shares(depths: Tensor, densities: Tensor, *, is_sorted: bool = False, backend: Backend = "auto") -> Shares:
    """Shares of samples: the mean of the weights of the intervals beside each.

    Args:
        depths: `[B, R, K]`.
        densities: `[B, R, K]`, raw.
        is_sorted: the depths ascend already.
        backend: "torch" defines the result. "numba" needs float32 on a CPU and depths without gradients, and is equal
            up to rounding; torch computes what is differentiated twice. "auto" takes it there.
    """
    has_depth_gradients = torch.is_grad_enabled() and depths.requires_grad
    can_be = can_compile(depths, densities, with_gradients=True) and not has_depth_gradients
    needs = "float32 on the CPU and depths without gradients"
    if takes_compiled(backend, can_be=can_be, needs=needs, got=depths):
        return Shares(*_SampleShares.apply(depths, densities))  # pyright: ignore[reportGeneralTypeIssues]
    return _define(depths, densities, is_sorted=is_sorted)


def _define(depths: Tensor, densities: Tensor, *, is_sorted: bool = False) -> Shares:
    order = None
    if not is_sorted:
        depths, order = torch.sort(depths, dim=-1, stable=True)
        densities = densities.gather(-1, order)
    weights = interval_weights(depths, densities)
    shares = 0.5 * (F.pad(weights, (1, 0)) + F.pad(weights, (0, 1)))
    if order is not None:
        shares = torch.zeros_like(shares).scatter(-1, order, shares)
    return Shares(depths, weights, shares)


class _SampleShares(torch.autograd.Function):
    """Loops along rays are numba's; exponentials are torch's, which takes several at once."""

    @staticmethod
    def forward(ctx, depths, densities):
        from portrait4d.render.shares_numba import share_out, sort_samples

        num_rays, shape = depths.shape[:-1].numel(), depths.shape
        inner = (*shape[:-1], shape[-1] - 1)
        order = torch.empty(shape, dtype=torch.int64)
        ascending, shares = (densities.new_empty(shape) for _ in range(2))
        lengths, means, weights = (densities.new_empty(inner) for _ in range(3))
        split_range(num_rays, sort_samples, *_rows(depths, densities, order, ascending, lengths, means))
        passed = F.softplus(means).mul_(lengths).neg_().exp_()
        split_range(num_rays, share_out, *_rows(passed, order), _FLOOR, *_rows(weights, shares))
        ctx.mark_non_differentiable(ascending)
        ctx.save_for_backward(depths, densities, order, lengths, means, passed)
        return ascending, weights, shares

    @staticmethod
    def backward(ctx, _, of_weights, of_shares):
        from portrait4d.render.shares_numba import share_out_backward

        depths, densities, order, lengths, means, passed = ctx.saved_tensors
        if torch.is_grad_enabled():
            given = [None, of_weights, of_shares]
            return differentiable_gradients(_define, (depths, densities), given, ctx.needs_input_grad)
        slopes = torch.sigmoid(means).mul_(lengths).mul_(passed)
        found = torch.empty_like(densities, memory_format=torch.contiguous_format)
        rows = _rows(passed, slopes, order), _rows(of_weights, of_shares, found)
        split_range(depths.shape[:-1].numel(), share_out_backward, *rows[0], _FLOOR, *rows[1])
        return None, found


def _rows(*values: Tensor) -> list[np.ndarray]:
    """Arrays of rays `[N, ...]`."""
    return [value.detach().contiguous().flatten(0, -2).numpy() for value in values]
