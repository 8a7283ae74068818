"""Rays through the pixels of a camera."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from flame.geometry.camera import Camera


@dataclass(frozen=True)
class Rays:
    """Rays: `origins` and unit `directions`, both `[B, R, 3]` in world units, in the row-major order of the picture."""

    origins: Tensor
    directions: Tensor

    def __post_init__(self) -> None:
        if self.origins.ndim != 3 or self.origins.shape[2] != 3 or self.directions.shape != self.origins.shape:
            raise ValueError(
                f"origins and directions must both be [B, R, 3], got {tuple(self.origins.shape)} and "
                f"{tuple(self.directions.shape)}"
            )

    def at(self, depths: Tensor) -> Tensor:
        """Points `[B, R, K, 3]` at distances `[B, R or 1, K]` along the rays."""
        return self.origins[:, :, None] + depths[..., None] * self.directions[:, :, None]

    def __len__(self) -> int:
        return len(self.origins)

    @property
    def num_rays(self) -> int:
        """Rays of each picture."""
        return self.origins.shape[1]

    def select(self, rays: slice) -> "Rays":
        """A slice of the rays of every picture."""
        return Rays(self.origins[:, rays], self.directions[:, rays])


def cast_rays(camera: Camera, *, height: int, width: int) -> Rays:
    """One ray through the centre of each pixel, `[B, height * width, 3]`.

    Labels in OpenCV axes (EG3D) are read by `Camera.from_label25(..., axes="opencv")`; the rays are the same.
    """
    like = camera.cam2world
    x = (torch.arange(width, dtype=like.dtype, device=like.device) + 0.5) / width
    y = (torch.arange(height, dtype=like.dtype, device=like.device) + 0.5) / height
    y, x = (axis.flatten() for axis in torch.meshgrid(y, x, indexing="ij"))
    k = camera.intrinsics[..., None]
    focal_x, focal_y, skew = k[:, 0, 0], k[:, 1, 1], k[:, 0, 1]
    centre_x, centre_y = k[:, 0, 2], k[:, 1, 2]
    down = (y - centre_y) / focal_y
    right = (x - centre_x + centre_y * skew / focal_y - skew * y / focal_y) / focal_x
    in_camera = torch.stack([right, -down, -torch.ones_like(right), torch.ones_like(right)], 1)
    # World points minus the origin, not rotated directions: this rounds as the released models do. A plane of 256
    # texels amplifies a difference in the last digit to the third.
    in_world = (camera.cam2world @ in_camera).transpose(1, 2)[..., :3]
    origins = camera.cam2world[:, None, :3, 3].expand_as(in_world)
    return Rays(origins, F.normalize(in_world - origins, dim=-1))
