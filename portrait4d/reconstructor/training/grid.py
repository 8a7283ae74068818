"""Pictures of fixed samples that show how a training comes on."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flame.geometry.camera import Camera
from portrait4d.ops.resample import resize
from portrait4d.reconstructor.network import Reconstructor
from portrait4d.reconstructor.training.losses import TrueHeads, WantedHeads
from preprocess.media.contact_sheet import draw_contact_sheet
from preprocess.media.image import to_uint8

SIDE_DEGREES = 30.0
_CELL_PX = 128


@torch.no_grad()
def draw_grid(network: Reconstructor, wanted: WantedHeads, true: TrueHeads) -> NDArray[np.uint8]:
    """A row for each sample: source, truth, result, its depth; from the front and both sides; with the source's motion.

    Args:
        network: in evaluation mode.
        wanted: B samples.
        true: their truth.
    """
    scale = wanted.motion_scale
    source = network.encode(wanted.source, wanted.source_motion, motion_scale=scale)
    planes = network.animate(source, wanted.driver_motion, motion_scale=scale)
    own = network.animate(source, wanted.source_motion, motion_scale=scale)
    seen = network.render(planes, source, wanted.camera, pose=wanted.pose)
    views = [turned(network, wanted.camera, degrees) for degrees in (0.0, -SIDE_DEGREES, SIDE_DEGREES)]
    columns = [
        wanted.source,
        true.image,
        seen.image,
        _depth_picture(seen.depth, seen.alpha, seen.image.shape[-1]),
        *(network.render(planes, source, view).image for view in views),
        network.render(own, source, wanted.camera, pose=wanted.pose).image,
    ]
    rows = zip(*(to_uint8(column) for column in columns), strict=True)
    return draw_contact_sheet([list(row) for row in rows], cell_height=_CELL_PX)


def turned(network: Reconstructor, camera: Camera, yaw_degrees: float) -> Camera:
    """Cameras on the training cameras' circle around the origin, with the lenses of others.

    Args:
        network: says how far.
        camera: B of them.
        yaw_degrees: from the front, positive to the world's +x.
    """
    yaw = torch.tensor(np.radians(yaw_degrees), dtype=camera.cam2world.dtype)
    cam2world = torch.eye(4).to(camera.cam2world).repeat(len(camera), 1, 1)
    cam2world[:, 0, 0] = cam2world[:, 2, 2] = yaw.cos()
    cam2world[:, 0, 2], cam2world[:, 2, 0] = yaw.sin(), -yaw.sin()
    cam2world[:, :3, 3] = network.config.camera_radius * cam2world[:, :3, 2]
    return replace(camera, cam2world=cam2world)


def _depth_picture(depth: Tensor, alpha: Tensor, side: int) -> Tensor:
    """Distances as grey in [-1, 1], near is bright, black where nothing is; `[B, 3, side, side]`."""
    near, far = depth.amin((1, 2, 3), keepdim=True), depth.amax((1, 2, 3), keepdim=True)
    bright = (far - depth) / (far - near).clamp(min=1e-6) * (alpha > 0.5)
    return (2 * resize(bright, height=side, width=side) - 1).expand(-1, 3, -1, -1)
