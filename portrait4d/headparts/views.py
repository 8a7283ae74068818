"""Cameras around a head as Portrait4D's training draws them, for networks whose cameras stand at any distance."""

from typing import Literal

from torch import Tensor

from flame.geometry.camera import Camera
from flame.geometry.look_at import released_views
from portrait4d.headparts.head import UNITS_PER_METRE

CAMERA_RADIUS = 4.2
"""World units: the distance of the released networks' training cameras."""

_FORWARD_METRES = 0.03
"""How far in front of FLAME's neck joint cameras aim; other heads' origin is in their middle."""


def training_views(
    drawn: Tensor, *, head: Literal["flame", "open"], camera_radius: float, fov_degrees: float
) -> Camera:
    """Cameras `[N]`, see `released_views`; distances grow with that of a network's own training cameras.

    Args:
        drawn: `[7, N]` in [0, 1).
        head: the head model, by which they aim.
        camera_radius: of the network's training cameras, world units.
        fov_degrees: their field of view.
    """
    scale = camera_radius / CAMERA_RADIUS
    return released_views(
        drawn,
        unit=UNITS_PER_METRE * scale,
        forward=_FORWARD_METRES if head == "flame" else 0.0,
        radius_scale=scale,
        fov_degrees=fov_degrees,
    )
