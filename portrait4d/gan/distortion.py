"""The spread of density along rays, which is least where a ray meets one thin surface.

Mip-NeRF 360, Barron et al. 2022, equation 15.
"""

import torch
from torch import Tensor


def distortion(depths: Tensor, weights: Tensor) -> Tensor:
    """`sum_ij w_i w_j |m_i - m_j| + 1/3 sum_i w_i^2 d_i` with the middles m and lengths d of the intervals.

    Args:
        depths: `[..., K]`, ascending.
        weights: `[..., K - 1]` of the intervals between them.

    Returns:
        `[...]`, in the unit of the depths.
    """
    lengths = depths[..., 1:] - depths[..., :-1]
    middles = 0.5 * (depths[..., 1:] + depths[..., :-1])
    # with ascending middles the double sum is twice sum_i w_i (m_i W_i - S_i), W and S the sums over j < i
    weighted = weights * middles
    before = torch.cumsum(weights, -1) - weights
    moment = torch.cumsum(weighted, -1) - weighted
    between = 2 * (weights * (middles * before - moment)).sum(-1)
    return between + (weights.square() * lengths).sum(-1) / 3
