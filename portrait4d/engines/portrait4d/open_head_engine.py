"""Trained reconstructors of the open head: no licensed file, no motion encoder, the pose in the camera alone."""

from __future__ import annotations

import math

import torch

from flame.geometry.camera import Camera
from flame.heads.flame import PORTRAIT4D_UNITS_PER_METRE
from flame.heads.frame_parameters import FrameParameters
from portrait4d.engines.base import Drive
from portrait4d.engines.portrait4d.abilities import OPEN_HEAD_ABILITIES
from portrait4d.engines.portrait4d.avatar import Portrait4DAvatar
from portrait4d.engines.portrait4d.cameras import through_crop
from portrait4d.engines.portrait4d.network_engine import NetworkEngine
from portrait4d.reconstructor.config import ReconstructorConfig
from preprocess.faces.crop import Crop
from preprocess.tracking.motion import Motion
from preprocess.tracking.tracker import TrackedFrame


class OpenHeadEngine(NetworkEngine):
    """An engine of a network that learned from heads of the open head, at rest before a turned camera."""

    abilities = OPEN_HEAD_ABILITIES

    def source_crop(self, source: TrackedFrame) -> Crop:
        """The crop that looks like the pictures that the network learned from."""
        size = source.image.shape[0], source.image.shape[1]
        return training_crop(source.motion, self.network.config, image_size=size)

    def frame_camera(self, avatar: Portrait4DAvatar, drive: Drive) -> tuple[Camera, None]:
        """Cameras of B frames, which hold the whole pose."""
        frame = FrameParameters.from_head_pose(drive.pose, drive.head, units_per_metre=PORTRAIT4D_UNITS_PER_METRE)
        return through_crop(frame.resting_head().camera, avatar), None


def training_crop(motion: Motion, config: ReconstructorConfig, *, image_size: tuple[int, int]) -> Crop:
    """The upright square of a picture in which a tracked head looks as in the training.

    There all heads are as far away, and `head_origin` is in the middle.

    Args:
        motion: the tracked picture, T = 1.
        config: of the network that learned from the pictures.
        image_size: (height, width) of the picture.
    """
    camera, side = motion.camera(0), motion.crop_size
    origin = torch.tensor(config.head_origin)[None, None]
    pixel, depth = camera.project(origin, height=side, width=side)
    seen_metres = 2 * config.camera_radius / PORTRAIT4D_UNITS_PER_METRE
    seen_metres *= math.tan(math.radians(config.camera_fov_degrees) / 2)
    seen_px = seen_metres * float(camera.intrinsics[0, 0, 0]) * side / float(depth[0, 0])
    tracked = Crop(motion.crop_matrix, side, image_size)
    x, y = tracked.to_image(pixel[0, 0].double().numpy())
    return Crop.from_square((float(x), float(y)), seen_px / tracked.scale, image_size=image_size)
