"""Cameras between the crops of tracker and avatar, and between the worlds of head model and network."""

from __future__ import annotations

import numpy as np
import torch

from flame.geometry.camera import Camera
from flame.heads.flame import PORTRAIT4D_UNITS_PER_METRE
from portrait4d.engines.portrait4d.avatar import Portrait4DAvatar


def through_crop(camera: Camera, avatar: Portrait4DAvatar) -> Camera:
    """Takes cameras of the tracker's crop to the avatar's crop: the same rays, other pixels."""
    between = avatar.crop.matrix @ np.linalg.inv(avatar.motion.crop_matrix)
    change = np.diag([1 / avatar.crop.size, 1 / avatar.crop.size, 1.0]) @ between
    change = change @ np.diag([avatar.motion.crop_size, avatar.motion.crop_size, 1.0])
    return Camera(camera.cam2world, torch.from_numpy(change).to(camera.intrinsics) @ camera.intrinsics)


def around_point(camera: Camera, origin: tuple[float, float, float]) -> Camera:
    """The same cameras in a world whose origin is a point of the head.

    Args:
        camera: in metres x 3 around the head model's origin.
        origin: the point in the head model's coordinates, metres.
    """
    cam2world = camera.cam2world.clone()
    cam2world[:, :3, 3] -= PORTRAIT4D_UNITS_PER_METRE * cam2world.new_tensor(origin)
    return Camera(cam2world, camera.intrinsics)
