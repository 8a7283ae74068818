"""The sum of a field's samples along rays (Max 1995; midpoint form of EG3D's marcher, after mip-NeRF)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from portrait4d.ops.compiled import Backend, can_compile, differentiable_gradients, split_range, takes_compiled
from portrait4d.render.shares import sample_shares


@dataclass(frozen=True)
class Marched:
    """Sums along rays.

    Attributes:
        features: `[B, R, C]`, not divided by the opacity.
        depth: `[B, R]` mean distance, infinite where the ray met nothing.
        opacity: `[B, R]` in [0, 1].
        sample_depths: `[B, R, K]`, ascending.
        weights: `[B, R, K - 1]` of the intervals between samples.
    """

    features: Tensor
    depth: Tensor
    opacity: Tensor
    sample_depths: Tensor
    weights: Tensor


def march(depths: Tensor, densities: Tensor, features: Tensor, *, is_sorted: bool = False) -> Marched:
    """Sums samples along each ray.

    An interval shows the mean of its two ends, so the weight of a sample is the mean of the weights beside it: the
    features need neither be sorted nor averaged.

    Args:
        depths: `[B, R, K]`.
        densities: `[B, R, K]`, raw.
        features: `[B, R, K, C]`.
        is_sorted: the depths ascend already.
    """
    ascending, weights, shares = sample_shares(depths, densities, is_sorted=is_sorted)
    depth_sum = (shares * depths).sum(-1)
    summed = sum_along_rays(shares, features)
    opacity = weights.sum(-1)
    is_met = opacity > 0  # dividing by a harmless number elsewhere keeps the gradient finite
    depth = torch.where(is_met, depth_sum / torch.where(is_met, opacity, 1.0), torch.inf)
    return Marched(summed, depth, opacity, ascending, weights)


def sum_along_rays(shares: Tensor, features: Tensor, *, backend: Backend = "auto") -> Tensor:
    """Computes `sum_k shares[k] features[k]`.

    Args:
        shares: `[B, R, K]`.
        features: `[B, R, K, C]`.
        backend: "torch" defines the result. "numba" needs float32 on a CPU and is equal up to rounding; torch computes
            what is differentiated twice. "auto" takes it where gradients are wanted.

    Returns:
        `[B, R, C]`.
    """
    can_be = can_compile(shares, features, with_gradients=True)
    needs = "float32 on the CPU"
    if takes_compiled(backend, can_be=can_be, pays=torch.is_grad_enabled(), needs=needs, got=features):
        return _SumAlongRays.apply(shares, features)  # pyright: ignore[reportReturnType]
    return _define(shares, features)


def _define(shares: Tensor, features: Tensor) -> Tensor:
    return (shares[..., None, :] @ features)[..., 0, :]


class _SumAlongRays(torch.autograd.Function):
    @staticmethod
    def forward(ctx, shares, features):
        from portrait4d.render.march_numba import add_along_rays

        ctx.save_for_backward(shares, features)
        rays, rows = shares.contiguous().flatten(0, 1), features.contiguous().flatten(0, 1)
        found = rows.new_empty(len(rows), rows.shape[2])
        split_range(len(rays), add_along_rays, rays.numpy(), rows.numpy(), found.numpy())
        return found.unflatten(0, shares.shape[:2])

    @staticmethod
    def backward(ctx, given):
        from portrait4d.render.march_numba import add_along_rays_backward

        shares, features = ctx.saved_tensors
        if torch.is_grad_enabled():
            return differentiable_gradients(_define, (shares, features), [given], ctx.needs_input_grad)
        arrays = [value.contiguous().flatten(0, 1).numpy() for value in (shares, features, given)]
        found = [value.new_empty(value.shape) for value in (shares, features)]
        split_range(len(arrays[0]), add_along_rays_backward, *arrays, *(value.flatten(0, 1).numpy() for value in found))
        return tuple(found)
