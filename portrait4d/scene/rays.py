"""The rays of posed pictures that meet a scene's cube, with the colours that they show."""

from torch import Tensor

from portrait4d.render.rays import Rays, cast_rays
from portrait4d.render.sampling import box_range
from portrait4d.scene.box import BOX_WARP
from portrait4d.scene.model import FittedScene
from portrait4d.scene.views import PosedViews


def rays_inside(scene: FittedScene, views: PosedViews) -> tuple[Rays, Tensor]:
    """All rays of the views that meet the cube, `[1, N]` in fitted units, and their colours `[N, 3]` in [0, 1]."""
    camera = scene.config.box.to_fitted(views.camera)
    rays = cast_rays(camera, height=views.side, width=views.side)
    hits = box_range(rays, box_warp=BOX_WARP).hits
    assert hits is not None
    colours = ((views.images + 1) / 2).permute(0, 2, 3, 1).flatten(1, 2)
    device = scene.planes.device
    return (
        Rays(rays.origins[hits][None].to(device), rays.directions[hits][None].to(device)),
        colours[hits].to(device),
    )
