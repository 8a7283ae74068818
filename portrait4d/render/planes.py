"""Tri-planes: what they hold, which axes they span, and reading them at points."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from portrait4d.ops.compiled import can_compile, split_range

PlaneLayout = Literal["eg3d", "orthogonal"]
"""Which coordinates span the three planes, (horizontal, vertical) each.

"orthogonal" is xy, yz, zx (GenHead, Portrait4D); "eg3d" is xy, xz, zx: EG3D's released weights were trained with it,
although it lacks the yz plane.
"""

Backend = Literal["auto", "torch", "numba"]

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
        """Planes from a picture `[B, 3 * C, H, W]` as networks make it, stored in the order that is fastest to read."""
        if picture.ndim != 4 or picture.shape[1] % 3:
            raise ValueError(f"expected a picture [B, 3 * C, H, W], got {tuple(picture.shape)}")
        planes = picture.unflatten(1, (3, -1)).flatten(0, 1)
        planes = planes.contiguous(memory_format=torch.channels_last)
        return cls(planes.unflatten(0, (-1, 3)), layout, box_warp)

    def sample_each(self, points: Tensor) -> Tensor:
        """Features of every plane at world points `[B, N, 3]`, as `[B, 3, N, C]`; bilinear."""
        features = self.features.flatten(0, 1)
        grid = self._places(points)
        sampled = F.grid_sample(features, grid.flatten(0, 1)[:, :, None], mode="bilinear", align_corners=False)
        return sampled.unflatten(0, (-1, 3))[..., 0].transpose(2, 3)

    def sample(self, points: Tensor, *, backend: Backend = "auto") -> Tensor:
        """Mean of the three planes' features at world points `[B, N, 3]`, as `[B, N, C]`.

        Args:
            points: world units.
            backend: "torch" defines the result. "numba" needs float32 on a CPU and no gradients, is equal up to
                rounding and takes a fraction of the time; "auto" takes it where it can.
        """
        if backend not in ("auto", "torch", "numba"):
            raise ValueError(f"backend must be 'auto', 'torch' or 'numba', got {backend!r}")
        is_compiled = backend != "torch" and can_compile(self.features, points)
        if backend == "numba" and not is_compiled:
            raise ValueError(
                f"backend 'numba' needs float32 on the CPU without gradients, got {points.dtype} on {points.device}"
            )
        if not is_compiled:
            return self.sample_each(points).mean(1)
        from portrait4d.render.planes_numba import mean_of_planes

        planes = self.features.permute(0, 1, 3, 4, 2).contiguous().numpy()
        found = points.new_empty((*points.shape[:2], self.features.shape[2]))
        places = self._places(points).numpy()
        for three, place, rows in zip(planes, places, found.numpy(), strict=True):
            split_range(len(rows), mean_of_planes, three, place, rows)
        return found

    def _places(self, points: Tensor) -> Tensor:
        """Where points fall on the planes, `[B, 3, N, 2]`, (horizontal, vertical) in [-1, 1]."""
        batch = len(self.features)
        if points.ndim != 3 or points.shape[2] != 3 or len(points) != batch:
            raise ValueError(f"points must be [{batch}, N, 3] like the planes' batch, got {tuple(points.shape)}")
        unit = points * (2.0 / self.box_warp)
        return torch.stack([unit[..., axes] for axes in _AXES[self.layout]], 1)

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, index: slice) -> "TriPlanes":
        return replace(self, features=self.features[index])

    def to(self, *args: torch.device | torch.dtype | str) -> "TriPlanes":
        """The planes on another device or in another dtype; arguments as for `Tensor.to`."""
        return replace(self, features=self.features.to(*args))  # pyright: ignore[reportCallIssue, reportArgumentType]
