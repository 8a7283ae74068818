"""Cameras around a target: a turntable, and a path around a scene that stays where its cameras were."""

import numpy as np
import torch
from torch import Tensor

from flame.geometry.camera import Camera, fov_to_intrinsics
from portrait4d.scene.box import SceneBox

_FULL_TURN_DEGREES = 150.0
"""Cameras that reach further to the sides than this count as standing all around."""
_STAY_INSIDE = 0.8
_LARGEST_ELEVATION_DEGREES = 80.0


def orbit_cameras(camera: Camera, box: SceneBox, *, num_frames: int) -> Camera:
    """Cameras `[num_frames]` of a closed orbit.

    The orbit is an ellipse over most of the directions of the fitted views, or a full turn where they stand all around.

    Args:
        camera: of the fitted views.
        box: what they look at.
        num_frames: number of cameras.
    """
    centre = torch.tensor(box.centre, dtype=torch.float64)
    pose = camera.cam2world.double()
    basis = _basis(pose, centre)  # columns: right, up, towards the mean camera
    towards = (pose[:, :3, 3] - centre) @ basis
    radius = float(towards.norm(dim=1).mean())
    azimuth = torch.rad2deg(torch.atan2(towards[:, 0], towards[:, 2])).numpy()
    elevation = torch.rad2deg(torch.asin((towards[:, 1] / towards.norm(dim=1)).clamp(-1, 1))).numpy()
    phase = 2 * np.pi * np.arange(num_frames) / num_frames
    middle = float(np.median(elevation))
    reach = float(np.quantile(np.abs(azimuth), 0.95))
    if reach > _FULL_TURN_DEGREES:
        azimuths, elevations = np.degrees(phase), np.full(num_frames, middle)
    else:
        height = _STAY_INSIDE * float(np.quantile(np.abs(elevation - middle), 0.95))
        azimuths, elevations = _STAY_INSIDE * reach * np.sin(phase), middle + height * np.cos(phase)
    elevations = elevations.clip(-_LARGEST_ELEVATION_DEGREES, _LARGEST_ELEVATION_DEGREES)
    local = turntable(torch.from_numpy(azimuths), torch.from_numpy(elevations), radius=radius, target=torch.zeros(3))
    world = local.cam2world.clone()
    world[:, :3] = basis @ local.cam2world[:, :3]
    world[:, :3, 3] += centre
    intrinsics = camera.intrinsics.double().mean(0).expand(num_frames, 3, 3)
    return Camera(world, intrinsics).to(camera.cam2world.dtype)


def turntable(
    azimuth_degrees: Tensor, elevation_degrees: Tensor, *, radius: float, target: Tensor, fov_degrees: float = 12.0
) -> Camera:
    """Upright cameras that look at a target.

    Cameras of one elevation stay at one height, unlike those of `Camera.orbit`, whose angles are those of a head in the
    picture.

    Args:
        azimuth_degrees: `[B]`, 0 on the z axis, 90 on the x axis.
        elevation_degrees: `[B]` above the target.
        radius: distance to the target.
        target: `[3]`.
        fov_degrees: field of view.
    """
    azimuth, elevation = torch.deg2rad(azimuth_degrees), torch.deg2rad(elevation_degrees)
    zero = torch.zeros_like(azimuth)
    level = elevation.cos()
    backward = torch.stack([level * azimuth.sin(), elevation.sin(), level * azimuth.cos()], 1)
    right = torch.stack([azimuth.cos(), zero, -azimuth.sin()], 1)
    up = torch.linalg.cross(backward, right)
    top = torch.stack([right, up, backward, target.to(backward) + radius * backward], 2)
    bottom = top.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(len(top), 1, 4)
    return Camera(torch.cat([top, bottom], 1), fov_to_intrinsics(fov_degrees, like=backward))


def _basis(pose: Tensor, centre: Tensor) -> Tensor:
    """Right, up and towards the mean camera, as columns `[3, 3]`; up is the mean of the cameras' own."""
    up = torch.nn.functional.normalize(pose[:, :3, 1].mean(0), dim=0)
    offsets = pose[:, :3, 3] - centre
    for candidate in (
        offsets.mean(0),
        offsets[0],
        pose[0, :3, 0],
    ):  # the mean may be zero where cameras stand all around
        towards = candidate - up * (up @ candidate)
        if towards.norm() > 0.1 * offsets.norm(dim=1).mean():
            break
    towards = torch.nn.functional.normalize(towards, dim=0)
    return torch.stack([torch.linalg.cross(up, towards), up, towards], 1)
