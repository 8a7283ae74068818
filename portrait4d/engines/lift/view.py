"""The camera of the source photo: one pinhole camera for rig, eyes and mouth."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flame.geometry.rotation import axis_angle_to_matrix
from portrait4d.engines.lift.canvas import MARGIN
from preprocess.tracking.motion import Motion


@dataclass(frozen=True)
class SourceView:
    """A pinhole camera and the head's pose in its space.

    `rotation` [3, 3] and `translation` [3] (metres) take head-frame points to camera space (OpenGL axes); `focal_px`
    and `size` are in crop pixels.
    """

    rotation: Tensor
    translation: Tensor
    focal_px: float
    size: int

    @classmethod
    def of(cls, motion: Motion) -> SourceView:
        """The view of a tracked source, T = 1."""
        rotation = axis_angle_to_matrix(torch.as_tensor(motion.rotation[0], dtype=torch.float32))
        translation = torch.as_tensor(motion.translation[0], dtype=torch.float32)
        focal_px = float(motion.camera(0).intrinsics[0, 0, 0]) * motion.crop_size
        return cls(rotation, translation, focal_px, motion.crop_size)

    def to_camera(self, points: Tensor) -> Tensor:
        """Takes head-frame points [N, 3] to camera space."""
        return points @ self.rotation.T + self.translation

    def to_canvas(self, points: Tensor) -> Tensor:
        """Takes head-frame points [N, 3] to canvas pixels and depth, [N, 3]."""
        screen = project_points(self.to_camera(points), self.focal_px, self.size)
        return screen + screen.new_tensor([MARGIN, MARGIN, 0])

    def from_canvas(self, pixels: Tensor, depth: Tensor | float) -> Tensor:
        """Takes canvas pixels [N, 2] at a depth ([N] or one for all, metres) to the head frame, [N, 3]."""
        depth = torch.as_tensor(depth, dtype=torch.float32).expand(len(pixels))
        offset = (pixels - MARGIN - self.size / 2) * (depth / self.focal_px)[:, None]
        camera_points = torch.stack([offset[:, 0], -offset[:, 1], -depth], -1)
        return (camera_points - self.translation) @ self.rotation


def project_points(camera_points: Tensor, focal_px: Tensor | float, size: int) -> Tensor:
    """Projects points [..., 3] in OpenGL camera space, metres, to pixels x, y (down) and depth in metres, [..., 3].

    Args:
        camera_points: points in front of the camera, z < 0.
        focal_px: focal length in pixels.
        size: side of the square picture; the axis meets its centre.
    """
    depth = -camera_points[..., 2]
    scale = focal_px / depth
    x = size / 2 + camera_points[..., 0] * scale
    y = size / 2 - camera_points[..., 1] * scale
    return torch.stack([x, y, depth], -1)
