"""Rendering of a field to a picture of features, in two passes (EG3D, Chan et al. 2022, section 4.3)."""

from dataclasses import dataclass, fields, replace
from typing import Literal

import torch
from torch import Tensor

from flame.geometry.camera import Camera
from portrait4d.render.decoder import FieldSamples
from portrait4d.render.field import Field
from portrait4d.render.march import Marched, march
from portrait4d.render.rays import Rays, cast_rays
from portrait4d.render.sampling import (
    MIDPOINTS,
    DepthRange,
    RandomNoise,
    SampleNoise,
    box_range,
    even_depths,
    plane_range,
    weighted_depths,
)
from portrait4d.render.shares import interval_weights
from portrait4d.runtime.random import RandomSource

RangeMode = Literal["fixed", "box", "plane"]
"""Where rays are sampled: between two distances; inside the cube; or around the camera's distance from the origin."""

DEFAULT_MAX_POINTS = 2**16
"""Points sampled at once: more need more memory and are not faster on a CPU."""

TRAINING_MAX_POINTS = 2**22
"""The same in training, where smaller chunks save no memory: all are kept for the gradient."""


@dataclass(frozen=True)
class RenderConfig:
    """How a field is rendered; the defaults are EG3D's for FFHQ.

    Attributes:
        range_mode: see `RangeMode`.
        near: distance of the first sample, for "fixed".
        far: distance of the last, for "fixed".
        box_warp: side of the field's cube in world units.
        num_coarse: even samples per ray.
        num_fine: samples per ray drawn by weight; 0 leaves the second pass out.
        is_disparity: space even samples in one over the distance.
        has_white_background: uncovered pixels are white instead of black.
        is_noise_shared: rays of a picture share their coarse noise (Portrait4D).
    """

    range_mode: RangeMode = "fixed"
    near: float = 2.25
    far: float = 3.3
    box_warp: float = 1.0
    num_coarse: int = 48
    num_fine: int = 48
    is_disparity: bool = False
    has_white_background: bool = False
    is_noise_shared: bool = False

    def __post_init__(self) -> None:
        if self.num_coarse < 3 or self.num_fine < 0:
            raise ValueError(
                f"expected at least 3 even samples and 0 or more by weight, got {self.num_coarse} and {self.num_fine}"
            )
        if not self.box_warp > 0:
            raise ValueError(f"box_warp must be positive, got {self.box_warp}")


@dataclass(frozen=True)
class Rendering:
    """What a camera sees of a field.

    Attributes:
        features: `[B, C, H, W]` in [0, 1], over black (or white); the first three channels are RGB.
        depth: `[B, 1, H, W]` mean distance along the ray in world units; rays that meet nothing get the farthest
            sample's distance, rays that miss the cube infinity.
        alpha: `[B, 1, H, W]` opacity in [0, 1].
        sample_depths: `[B, H * W, K]` distances of all samples, ascending.
        weights: `[B, H * W, K - 1]` of the intervals between them.
    """

    features: Tensor
    depth: Tensor
    alpha: Tensor
    sample_depths: Tensor
    weights: Tensor


def render(
    field: Field,
    camera: Camera,
    config: RenderConfig,
    *,
    height: int,
    width: int,
    generator: RandomSource | None = None,
    max_points: int = DEFAULT_MAX_POINTS,
    box_scale: float | Tensor = 1.0,
) -> Rendering:
    """Renders a picture of a field.

    Args:
        field: the volumes.
        camera: one for each volume.
        config: how rays are sampled.
        height: of the picture.
        width: of the picture.
        generator: source of the sampling noise; None takes fixed samples.
        max_points: points sampled at once, which bounds the memory; the result does not depend on it.
        box_scale: factor on the cube that rays cross, or `[B, 1, 1]`.
    """
    rays = cast_rays(camera, height=height, width=width)
    noise = MIDPOINTS if generator is None else RandomNoise(generator)
    depth_range = choose_range(rays, config, world2cam=camera.world2cam, box_scale=box_scale)
    marched = render_rays(field, rays, config, depth_range=depth_range, noise=noise, max_points=max_points)
    features = marched.features.transpose(1, 2).unflatten(2, (height, width))
    depth, alpha = (value[:, None].unflatten(2, (height, width)) for value in (marched.depth, marched.opacity))
    return Rendering(features, depth, alpha, marched.sample_depths, marched.weights)


def choose_range(rays: Rays, config: RenderConfig, *, world2cam: Tensor, box_scale: float | Tensor = 1.0) -> DepthRange:
    """The distances between which `config` samples these rays, its cube being larger by a factor."""
    if config.range_mode == "fixed":
        return DepthRange(config.near, config.far)
    if config.range_mode == "box":
        return box_range(rays, box_warp=config.box_warp * box_scale)
    if config.range_mode == "plane":
        return plane_range(rays, world2cam, box_warp=config.box_warp * box_scale)
    raise ValueError(f"range mode must be 'fixed', 'box' or 'plane', got {config.range_mode!r}")


def render_rays(
    field: Field,
    rays: Rays,
    config: RenderConfig,
    *,
    depth_range: DepthRange,
    noise: SampleNoise = MIDPOINTS,
    max_points: int = DEFAULT_MAX_POINTS,
) -> Marched:
    """Runs both passes over all rays; see `render`."""
    batch, num_rays = len(rays), rays.num_rays
    coarse, quantiles = place_samples(rays, config, depth_range, noise)
    rays_at_once = max(max_points // (batch * max(config.num_coarse, config.num_fine)), 1)
    parts = []
    for start in range(0, num_rays, rays_at_once):
        part = slice(start, start + rays_at_once)
        parts.append(_two_passes(field, rays.select(part), coarse[:, part], quantiles[:, part]))
    marched = parts[0] if len(parts) == 1 else _join(parts)
    return finish_march(marched, depth_range.hits, has_white_background=config.has_white_background)


def place_samples(
    rays: Rays, config: RenderConfig, depth_range: DepthRange, noise: SampleNoise
) -> tuple[Tensor, Tensor]:
    """Even distances `[B, R, K]` and quantiles of the second pass `[B, R, M]`, drawn before any split into chunks."""
    batch, num_rays = len(rays), rays.num_rays
    shape = (batch, 1 if config.is_noise_shared else num_rays, config.num_coarse)
    coarse = even_depths(
        depth_range, config.num_coarse, noise.coarse(shape, rays.origins), is_disparity=config.is_disparity
    )
    quantiles = noise.fine((batch, num_rays, config.num_fine), rays.origins)
    return coarse.expand(batch, num_rays, -1), quantiles


def _two_passes(field: Field, rays: Rays, coarse: Tensor, quantiles: Tensor) -> Marched:
    density, features = _ask(field, rays, coarse)
    if not quantiles.shape[-1]:
        return march(coarse, density, features, is_sorted=True)
    fine = weighted_depths(coarse, interval_weights(coarse, density.detach()), quantiles)
    fine_density, fine_features = _ask(field, rays, fine)
    return march(
        torch.cat([coarse, fine], 2), torch.cat([density, fine_density], 2), torch.cat([features, fine_features], 2)
    )


def _ask(field: Field, rays: Rays, depths: Tensor) -> FieldSamples:
    """Density `[B, R, K]` and features `[B, R, K, C]`."""
    density, features = field(rays.at(depths).flatten(1, 2))
    shape = depths.shape[1:]
    return FieldSamples(density.unflatten(1, shape), features.unflatten(1, shape))


def _join(parts: list[Marched]) -> Marched:
    columns = {column.name: [getattr(part, column.name) for part in parts] for column in fields(Marched)}
    return Marched(**{name: torch.cat(values, 1) for name, values in columns.items()})


def finish_march(marched: Marched, hits: Tensor | None, *, has_white_background: bool) -> Marched:
    """Clears rays that miss, and keeps depths between the nearest and the farthest sample."""
    features, depth, opacity = marched.features, marched.depth, marched.opacity
    nearest, farthest = marched.sample_depths[..., 0], marched.sample_depths[..., -1]
    if hits is not None:
        nearest, farthest = nearest.where(hits, torch.inf), farthest.where(hits, -torch.inf)
    # per picture; the original code takes the whole batch, which differs where a ray meets nothing
    depth = depth.clamp(nearest.amin(1, keepdim=True), farthest.amax(1, keepdim=True))
    if hits is not None:
        features, opacity = features.where(hits[..., None], 0.0), opacity.where(hits, 0.0)
        depth = depth.where(hits, torch.inf)
    if has_white_background:
        features = features + (1.0 - opacity)[..., None]
    return replace(marched, features=features, depth=depth, opacity=opacity)
