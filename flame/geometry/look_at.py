"""Cameras on a sphere around the world's origin that look at a point, as EG3D and Portrait4D place them.

The samplers of EG3D and Portrait4D differ in the sign of the azimuth. Both map every elevation as if it had been drawn
evenly on the sphere, even one that is given. Here angles are true unless `elevation="legacy"`.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from flame.geometry.camera import Camera, fov_to_intrinsics

Azimuth = Literal["portrait4d", "eg3d"]
"""Where the camera goes for a positive azimuth: to -x (Portrait4D, as public yaw does) or to +x (EG3D)."""

Elevation = Literal["true", "legacy"]
"""Whether an elevation `p` is the angle itself, or means `asin(2 p / pi)` as in the original samplers."""

Distribution = Literal["gaussian", "uniform"]

_YAW, _PITCH, _PITCH_MEAN, _ROLL = 0.78, 0.45, 0.2, 0.25
"""Of `released_views`, radians: even around 0, except for the pitch."""
_AIM, _RADIUS = 0.01, (3.65, 4.45)
"""How far the aim is drawn, metres, and the distance, world units."""


def look_at(
    azimuth_radians: Tensor,
    elevation_radians: Tensor,
    *,
    radius: float | Tensor,
    target: Tensor,
    fov_degrees: float,
    roll_radians: Tensor | None = None,
    azimuth: Azimuth = "portrait4d",
    elevation: Elevation = "true",
) -> Camera:
    """Returns cameras at a distance from the origin, turned towards a target.

    Args:
        azimuth_radians: `[B]`, 0 in front of the face; see `Azimuth`.
        elevation_radians: `[B]`, > 0 above; see `Elevation`.
        radius: distance to the world's origin, wherever the target is; one for all, or `[B]`.
        target: `[3]` or `[B, 3]` world point in the picture's centre.
        fov_degrees: true field of view; see `legacy_fov_to_degrees`.
        roll_radians: `[B]`, > 0 leans the camera to its right; only Portrait4D's sampler has it.
        azimuth: whose sign the azimuth has; see `Azimuth`.
        elevation: how elevations are meant; see `Elevation`.
    """
    if azimuth not in ("portrait4d", "eg3d"):
        raise ValueError(f"azimuth must be 'portrait4d' or 'eg3d', got {azimuth!r}")
    if elevation not in ("true", "legacy"):
        raise ValueError(f"elevation must be 'true' or 'legacy', got {elevation!r}")
    side = -1.0 if azimuth == "portrait4d" else 1.0
    sine = torch.sin(elevation_radians) if elevation == "true" else (elevation_radians * (2 / math.pi)).clamp(-1, 1)
    cosine = torch.cos(elevation_radians) if elevation == "true" else (1 - sine.square()).clamp(min=0).sqrt()
    across, along = side * torch.sin(azimuth_radians), torch.cos(azimuth_radians)
    if isinstance(radius, Tensor):
        radius = radius[:, None]
    origin = radius * torch.stack([cosine * across, sine, cosine * along], 1)
    forward = F.normalize(target.to(origin) - origin, dim=-1)
    # seen from straight above or below, "up" is no longer a direction; the azimuth still is
    level = torch.stack([-forward[:, 2], torch.zeros_like(sine), forward[:, 0]], 1)
    fallback = torch.stack([along, torch.zeros_like(sine), -across], 1)
    is_steep = level.norm(dim=-1, keepdim=True) < 1e-6
    right = F.normalize(torch.where(is_steep, fallback, level), dim=-1)
    up = torch.linalg.cross(right, forward)
    if roll_radians is not None:
        lean, stay = torch.sin(roll_radians)[:, None], torch.cos(roll_radians)[:, None]
        right, up = right * stay - up * lean, up * stay + right * lean
    top = torch.stack([right, up, -forward, origin], 2)
    bottom = top.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(len(top), 1, 4)
    return Camera(torch.cat([top, bottom], 1), fov_to_intrinsics(fov_degrees, like=origin))


def released_views(
    drawn: Tensor, *, unit: float, forward: float, radius_scale: float = 1.0, fov_degrees: float
) -> Camera:
    """Cameras around a head as Portrait4D's training places them, from even numbers.

    Args:
        drawn: `[7, N]` in [0, 1): yaw, pitch, roll, aim x, y, z and distance.
        unit: world units in a metre.
        forward: how far in front of the origin cameras aim, metres.
        radius_scale: factor on their distance, of 3.65 to 4.45 world units.
        fov_degrees: their true field of view.
    """
    yaw, pitch, roll, *aim, along = drawn
    target = unit * ((2 * torch.stack(aim, 1) - 1) * _AIM + drawn.new_tensor([0.0, 0.0, forward]))
    low, high = _RADIUS
    return look_at(
        (2 * yaw - 1) * _YAW,
        (2 * pitch - 1) * _PITCH + _PITCH_MEAN,
        roll_radians=(2 * roll - 1) * _ROLL,
        radius=radius_scale * (low + (high - low) * along),
        target=target,
        fov_degrees=fov_degrees,
        elevation="legacy",
    )


def draw_angles(
    count: int,
    *,
    mean: float = 0.0,
    deviation: float,
    distribution: Distribution = "gaussian",
    generator: torch.Generator,
) -> Tensor:
    """Draws random angles `[count]` for `look_at`, in the unit of `mean` and `deviation`.

    The original random samplers equal `look_at` with target 0, elevation "legacy" and azimuth "eg3d". That includes
    Portrait4D's, although its deterministic sampler turns the other way.

    Args:
        count: number of angles.
        mean: centre of the distribution.
        deviation: standard deviation ("gaussian") or largest distance to the mean ("uniform").
        distribution: "gaussian" or "uniform".
        generator: its device holds the result.
    """
    if distribution == "gaussian":
        unit = torch.randn(count, generator=generator, device=generator.device)
    elif distribution == "uniform":
        unit = torch.rand(count, generator=generator, device=generator.device) * 2 - 1
    else:
        raise ValueError(f"distribution must be 'gaussian' or 'uniform', got {distribution!r}")
    return mean + deviation * unit


def legacy_fov_to_degrees(value: float) -> float:
    """Returns the true degrees of a field of view as the original scripts count it: their 18.837 is 13.37 degrees."""
    focal = 1 / (1.414 * math.tan(value * 3.14159 / 360))  # a superfluous, rounded root of two and a rounded pi
    return focal_to_fov_degrees(focal)


def focal_to_fov_degrees(focal: float) -> float:
    """Returns the field of view of a square picture from its focal length in image widths."""
    return math.degrees(2 * math.atan(0.5 / focal))
