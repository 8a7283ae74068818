"""The sum of a field's samples along rays (Max 1995; midpoint form of EG3D's marcher, after mip-NeRF)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_TRANSMITTANCE_FLOOR = 1e-10


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
    order = None
    if not is_sorted:
        depths, order = torch.sort(depths, dim=-1, stable=True)
        densities = densities.gather(-1, order)
    weights = interval_weights(depths, densities)
    shares = 0.5 * (F.pad(weights, (1, 0)) + F.pad(weights, (0, 1)))
    depth_sum = (shares * depths).sum(-1)
    if order is not None:
        shares = torch.zeros_like(shares).scatter(-1, order, shares)
    summed = (shares[..., None, :] @ features)[..., 0, :]
    opacity = weights.sum(-1)
    is_met = opacity > 0  # dividing by a harmless number elsewhere keeps the gradient finite
    depth = torch.where(is_met, depth_sum / torch.where(is_met, opacity, 1.0), torch.inf)
    return Marched(summed, depth, opacity, depths, weights)
