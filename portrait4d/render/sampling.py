"""Where rays sample a field: evenly at first, then where the weight is (NeRF, Mildenhall et al. 2020, 5.2)."""

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from portrait4d.ops.compiled import Backend, can_compile, split_range, takes_compiled
from portrait4d.render.rays import Rays
from portrait4d.runtime.random import RandomSource, uniform

_PARALLEL = 1e-12
"""Directions nearer to zero are replaced by this, so that a ray along a side of the cube does not divide by zero."""


class SampleNoise(Protocol):
    """Numbers in [0, 1) that place samples within their intervals."""

    def coarse(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Numbers for the even samples, `[B, R or 1, K]`."""
        ...

    def fine(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Numbers for the samples drawn by weight, `[B, R, K]`."""
        ...


class Midpoints:
    """No noise: the middle of each interval and even quantiles. The same picture every time, without flicker."""

    def coarse(self, shape: tuple[int, ...], like: Tensor) -> Tensor:  # noqa: D102
        return like.new_full((1,), 0.5).expand(shape)

    def fine(self, shape: tuple[int, ...], like: Tensor) -> Tensor:  # noqa: D102
        count = shape[-1]
        return ((torch.arange(count, dtype=like.dtype, device=like.device) + 0.5) / count).expand(shape)


MIDPOINTS = Midpoints()


@dataclass(frozen=True)
class RandomNoise:
    """Uniform noise from a generator, for training."""

    generator: RandomSource

    def coarse(self, shape: tuple[int, ...], like: Tensor) -> Tensor:  # noqa: D102
        return uniform(self.generator, shape, like)

    fine = coarse


@dataclass(frozen=True)
class DepthRange:
    """Distances along the rays between which the field is sampled.

    Attributes:
        near: `[B, R or 1, 1]`, or one number for all rays.
        far: like `near`.
        hits: `[B, R]`, False for rays without samples; None where all have some.
    """

    near: Tensor | float
    far: Tensor | float
    hits: Tensor | None = None


def plane_range(rays: Rays, world2cam: Tensor, *, box_warp: float | Tensor) -> DepthRange:
    """The cube's extent around the camera's distance from the origin along its axis (Portrait4D).

    Args:
        rays: their dtype and device are taken.
        world2cam: `[B, 4, 4]`.
        box_warp: side of the cube in world units, or `[B, 1, 1]`.
    """
    distance = world2cam[:, 2, 3].abs().to(rays.origins)[:, None, None]
    return DepthRange(distance - box_warp / 2, distance + box_warp / 2)


def box_range(rays: Rays, *, box_warp: float | Tensor) -> DepthRange:
    """Where each ray enters and leaves the cube around the origin (slab test); rays that miss it are marked."""
    slope = 1.0 / torch.where(rays.directions.abs() < _PARALLEL, _PARALLEL, rays.directions)
    towards = (-box_warp / 2 - rays.origins) * slope
    away = (box_warp / 2 - rays.origins) * slope
    near = torch.minimum(towards, away).amax(-1, keepdim=True)
    far = torch.maximum(towards, away).amin(-1, keepdim=True)
    hits = (near <= far) & (far > 0)
    near = torch.where(hits, near.clamp(min=0), 0.0)
    return DepthRange(near, torch.where(hits, far, 1.0), hits[..., 0])


def even_depths(depth_range: DepthRange, count: int, noise: Tensor, *, is_disparity: bool = False) -> Tensor:
    """Places `count` distances from near to far, each moved towards the next by its noise.

    Args:
        depth_range: near and far.
        count: number of distances.
        noise: `[B, R or 1, count]` in [0, 1).
        is_disparity: space them evenly in one over the distance.

    Returns:
        `[B, R or 1, count]`; the last may lie beyond `far`.

    Raises:
        ValueError: with `is_disparity`, the last sample would lie beyond infinity.
    """
    near, far, gaps = depth_range.near, depth_range.far, max(count - 1, 1)
    place = torch.arange(count, dtype=noise.dtype, device=noise.device) / gaps
    if is_disparity:
        place = place + noise / gaps
        if bool(torch.as_tensor(1.0 / near * (1.0 - place) + 1.0 / far * place).min() <= 0):
            raise ValueError("the last sample would lie beyond infinity: take a larger near, or more samples")
        return 1.0 / (1.0 / near * (1.0 - place) + 1.0 / far * place)
    if isinstance(near, float) and isinstance(far, float):  # the formula below rounds differently
        even = torch.linspace(near, far, count, dtype=noise.dtype, device=noise.device)
    else:
        even = near + place * (far - near)
    return even + noise * ((far - near) / gaps)


@torch.no_grad()
def weighted_depths(depths: Tensor, weights: Tensor, noise: Tensor, *, backend: Backend = "auto") -> Tensor:
    """Distances drawn where the weights of a first pass are; carries no gradient.

    Weights are first widened by one sample to both sides (mip-NeRF, Barron et al. 2021, equation 18).

    Args:
        depths: `[B, R, K]` of the first pass.
        weights: `[B, R, K - 1]` of the intervals between them.
        noise: `[B, R, M]` in [0, 1), the quantiles to take.
        backend: "torch" defines the result. "numba" needs float32 on a CPU and four samples, and is equal up to
            rounding; "auto" takes it there.

    Returns:
        `[B, R, M]`, unsorted if the noise is unsorted.
    """
    can_be = can_compile(depths, weights, noise) and depths.shape[2] > 3
    needs = "float32 on the CPU and four samples a ray"
    if takes_compiled(backend, can_be=can_be, needs=needs, got=depths):
        from portrait4d.render.sampling_numba import place_by_weight

        found = noise.new_empty(noise.shape)
        arrays = (value.contiguous().flatten(0, 1).detach().numpy() for value in (depths, weights, noise))
        split_range(depths.shape[:2].numel(), place_by_weight, *arrays, found.flatten(0, 1).numpy())
        return found
    rays = weights.flatten(0, 1)[:, None]
    blurred = F.avg_pool1d(F.max_pool1d(rays, 2, stride=1, padding=1), 2, stride=1)[:, 0] + 0.01
    middles = (0.5 * (depths[..., :-1] + depths[..., 1:])).flatten(0, 1)
    return draw_from_histogram(middles, blurred[:, 1:-1], noise.flatten(0, 1)).unflatten(0, depths.shape[:2])


def draw_from_histogram(edges: Tensor, weights: Tensor, quantiles: Tensor) -> Tensor:
    """Inverts the cumulative sum of weights over intervals, linearly inside each.

    Args:
        edges: `[N, K]`; edges beyond the intervals' count + 1 are not used.
        weights: `[N, W]`, W < K, not negative.
        quantiles: `[N, M]` in [0, 1].

    Returns:
        `[N, M]` within the edges.
    """
    weights = weights + 1e-5  # no interval is impossible
    cumulated = F.pad((weights / weights.sum(-1, keepdim=True)).cumsum(-1), (1, 0))
    last = weights.shape[-1]
    above = torch.searchsorted(cumulated, quantiles.contiguous(), right=True)
    below = (above - 1).clamp(min=0)
    above = above.clamp(max=last)
    start, stop = cumulated.gather(-1, below), cumulated.gather(-1, above)
    width = torch.where(stop - start < 1e-5, 1.0, stop - start)
    left, right = edges.gather(-1, below), edges.gather(-1, above)
    return left + (quantiles - start) / width * (right - left)
