"""Regularisers of density: it changes little from one point to the next, or does not fall behind a surface.

Against floaters, fog and hollow heads. EG3D, Chan et al. 2022, supplement; total variation after Rudin et al. 1992.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from portrait4d.render.field import Field
from portrait4d.runtime.random import RandomSource, normal, uniform

PointRange = Literal["cube", "official"]
"""Where points are drawn.

"cube" fills the field's cube; "official" is [-1, 1] on each axis whatever the cube, as in training of the released
models, so that most points lie where there is nothing to regularise.
"""


@dataclass(frozen=True)
class DensityVariationConfig:
    """How density is compared; the defaults are EG3D's and GenHead's except for the range.

    Attributes:
        num_points: pairs of points for each volume.
        distance: standard deviation of the step between a pair, in sides of the cube.
        point_range: see `PointRange`.
    """

    num_points: int = 1000
    distance: float = 0.004
    point_range: PointRange = "cube"


def density_variation(
    field: Field,
    *,
    batch: int,
    box_warp: float,
    generator: RandomSource,
    config: DensityVariationConfig | None = None,
    like: Tensor,
) -> Tensor:
    """Mean absolute difference of raw density between random points and their neighbours.

    Args:
        field: volumes in cubes around the origin.
        batch: number of volumes.
        box_warp: side of a cube in world units.
        generator: source of the points.
        config: how density is compared.
        like: gives the dtype and device of the points; the device must be the generator's.
    """
    points, neighbours = draw_point_pairs(batch, box_warp, generator=generator, config=config, like=like)
    first, second = field(torch.cat([points, neighbours], 1)).density.chunk(2, 1)
    return (first - second).abs().mean()


@dataclass(frozen=True)
class DensityOrderConfig:
    """How density is compared along the depth; the defaults are those of EG3D's code.

    Attributes:
        num_points: pairs of points for each volume.
        distance: from the front to the back of a pair, in sides of the cube.
        point_range: see `PointRange`.
        is_front_fixed: only the point behind learns.
    """

    num_points: int = 2000
    distance: float = 1 / 256
    point_range: PointRange = "cube"
    is_front_fixed: bool = False


def density_fall(
    field: Field,
    *,
    batch: int,
    box_warp: float,
    generator: RandomSource,
    config: DensityOrderConfig | None = None,
    like: Tensor,
) -> Tensor:
    """Mean of what raw density loses from random points to those behind them, along -z of the world.

    The equation is `mean relu(sigma(x) - sigma(x - d e_z))`. Parameters as for `density_variation`.
    """
    config = config or DensityOrderConfig()
    shape = (batch, config.num_points, 3)
    front = (uniform(generator, shape, like) * 2 - 1) * _half_side(config.point_range, box_warp)
    back = front - front.new_tensor([0.0, 0.0, config.distance * box_warp])
    first, second = field(torch.cat([front, back], 1)).density.chunk(2, 1)
    if config.is_front_fixed:
        first = first.detach()
    return (first - second).relu().mean()


def draw_point_pairs(
    batch: int,
    box_warp: float,
    *,
    generator: RandomSource,
    config: DensityVariationConfig | None = None,
    like: Tensor,
) -> tuple[Tensor, Tensor]:
    """Uniform points and, a normally distributed step away, their neighbours: `[B, N, 3]` each, world units."""
    config = config or DensityVariationConfig()
    shape = (batch, config.num_points, 3)
    points = uniform(generator, shape, like) * 2 - 1
    step = normal(generator, shape, like)
    points = points * _half_side(config.point_range, box_warp)
    return points, points + step * (config.distance * box_warp)


def _half_side(point_range: PointRange, box_warp: float) -> float:
    if point_range == "cube":
        return box_warp / 2
    if point_range == "official":
        return 1.0
    raise ValueError(f"point range must be 'cube' or 'official', got {point_range!r}")
