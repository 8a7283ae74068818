"""Tri-planes: what they hold, which axes they span, and reading them at points."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

PlaneLayout = Literal["eg3d", "orthogonal"]
"""Which coordinates span the three planes, (horizontal, vertical) each:
"orthogonal" is xy, yz, zx (GenHead, Portrait4D); "eg3d" is xy, xz, zx, which its released weights were trained with
although the yz plane is missing from it."""

_AXES: dict[str, tuple[tuple[int, int], ...]] = {
    "eg3d": ((0, 1), (0, 2), (2, 0)),
    "orthogonal": ((0, 1), (1, 2), (2, 0)),
}


@dataclass(frozen=True)
class TriPlanes:
    """Feature planes over a cube around the origin.

    Attributes:
        features: `[B, 3, C, H, W]`.
        layout: see `PlaneLayout`.
        box_warp: side of the cube in world units; outside, features are zero.
    """

    features: Tensor
    layout: PlaneLayout
    box_warp: float = 1.0

    def __post_init__(self) -> None:
        if self.features.ndim != 5 or self.features.shape[1] != 3:
            raise ValueError(f"planes must be [B, 3, C, H, W], got {tuple(self.features.shape)}")
        if self.layout not in _AXES:
            raise ValueError(f"plane layout must be one of {', '.join(_AXES)}; got {self.layout!r}")
        if self.box_warp <= 0:
            raise ValueError(f"box_warp must be positive, got {self.box_warp}")

    @classmethod
    def from_picture(cls, picture: Tensor, *, layout: PlaneLayout, box_warp: float) -> "TriPlanes":
        """Planes from a picture `[B, 3 * C, H, W]` as networks make it, stored the way they are read fastest."""
        if picture.ndim != 4 or picture.shape[1] % 3:
            raise ValueError(f"expected a picture [B, 3 * C, H, W], got {tuple(picture.shape)}")
        planes = picture.unflatten(1, (3, -1)).flatten(0, 1)
        planes = planes.contiguous(memory_format=torch.channels_last)
        return cls(planes.unflatten(0, (-1, 3)), layout, box_warp)

    def sample_each(self, points: Tensor) -> Tensor:
        """Features of every plane at world points `[B, N, 3]`, as `[B, 3, N, C]`; bilinear."""
        batch = len(self.features)
        if points.ndim != 3 or points.shape[2] != 3 or len(points) != batch:
            raise ValueError(f"points must be [{batch}, N, 3] like the planes' batch, got {tuple(points.shape)}")
        num_points = points.shape[1]
        unit = points * (2.0 / self.box_warp)
        grid = torch.stack([unit[..., axes] for axes in _AXES[self.layout]], 1)
        sampled = F.grid_sample(
            self.features.flatten(0, 1), grid.view(batch * 3, num_points, 1, 2), mode="bilinear", align_corners=False
        )
        return sampled.view(batch, 3, -1, num_points).transpose(2, 3)

    def sample(self, points: Tensor) -> Tensor:
        """Mean of the three planes' features at world points `[B, N, 3]`, as `[B, N, C]`."""
        return self.sample_each(points).mean(1)

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, index: slice) -> "TriPlanes":
        return replace(self, features=self.features[index])

    def to(self, *args: torch.device | torch.dtype | str) -> "TriPlanes":
        """Like `Tensor.to`."""
        return replace(self, features=self.features.to(*args))  # pyright: ignore[reportCallIssue, reportArgumentType]
