"""From a tracked head to the camera and the neck that Portrait4D's networks know.

Their world has its origin in the neck joint of the mean face and counts in thirds of a metre; the head turns about the
subject's own neck joint, and the camera does not turn (Portrait4D's "decomposed" camera).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from flame.camera import Camera, fov_to_intrinsics
from flame.flame_model import NECK, PORTRAIT4D_UNITS_PER_METRE
from flame.head_model import HeadModel, HeadParams
from flame.rotation import axis_angle_to_matrix
from preprocess.crop import Crop
from preprocess.motion import Motion

CANONICAL_POSITION = (0.0, 0.01, 4.2)
"""Where the released demonstrations put the camera, looking along -z."""


def tracked_cameras(model: HeadModel, params: HeadParams, translation: Tensor, *, crop: Crop, motion: Motion) -> Camera:
    """Cameras that see the posed head where it was tracked, through an aligned crop.

    Args:
        model: in Portrait4D's unit.
        params: B heads; `neck` carries the whole rotation in camera space.
        translation: `[B, 3]` of the head in the tracker's camera, metres.
        crop: what the picture shall show.
        motion: a track of the same picture; its crop is what `translation` refers to.
    """
    joint = model.rest_joints(params.shape, params.expression)[:, NECK]
    turned = (axis_angle_to_matrix(params.neck) @ joint[..., None])[..., 0]
    offset = PORTRAIT4D_UNITS_PER_METRE * translation - joint + turned
    cam2world = torch.eye(4).to(offset).repeat(len(offset), 1, 1)
    cam2world[:, :3, 3] = -offset
    between = crop.matrix @ np.linalg.inv(motion.crop_matrix)
    between = _from_unit(1 / crop.size) @ between @ _from_unit(motion.crop_size)
    intrinsics = torch.from_numpy(between).to(offset) @ motion.camera(0).intrinsics.to(offset)
    return Camera(cam2world, intrinsics.expand(len(offset), 3, 3))


def canonical_cameras(count: int, *, like: Tensor) -> Camera:
    """The released demonstrations' camera for any number of heads; the head is always in the same place."""
    cam2world = torch.eye(4, dtype=like.dtype, device=like.device).repeat(count, 1, 1)
    cam2world[:, :3, 3] = like.new_tensor(CANONICAL_POSITION)
    return Camera(cam2world, fov_to_intrinsics(12.0, like=cam2world))


def _from_unit(side: float) -> np.ndarray:
    return np.diag([side, side, 1.0])
