"""Tri-planes: what they hold, which axes they span, and reading them at points."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from portrait4d.ops.compiled import Backend, can_compile, differentiable_gradients, split_range, takes_compiled

PlaneLayout = Literal["eg3d", "orthogonal"]
"""Which coordinates span the three planes, (horizontal, vertical) each.

"orthogonal" is xy, yz, zx (GenHead, Portrait4D); "eg3d" is xy, xz, zx: EG3D's released weights were trained with it,
although it lacks the yz plane.
"""

Axes = tuple[tuple[int, int], ...]

_AXES: dict[str, Axes] = {
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
        pixels = picture.permute(0, 2, 3, 1).unflatten(3, (3, -1))  # [B, H, W, 3, C]
        planes = pixels.permute(0, 3, 1, 2, 4).contiguous()
        return cls(planes.permute(0, 1, 4, 2, 3), layout, box_warp)

    def sample_each(self, points: Tensor) -> Tensor:
        """Features of every plane at world points `[B, N, 3]`, as `[B, 3, N, C]`; bilinear."""
        return _sample_each(self.features, self._unit(points), _AXES[self.layout])

    def sample(self, points: Tensor, *, backend: Backend = "auto") -> Tensor:
        """Mean of the three planes' features at world points `[B, N, 3]`, as `[B, N, C]`.

        Args:
            points: world units.
            backend: "torch" defines the result. "numba" needs float32 on a CPU and points that want no gradient, is
                equal up to rounding and takes a fraction of the time; torch computes what is differentiated twice.
                "auto" takes it where it can.
        """
        wants_gradient = torch.is_grad_enabled() and points.requires_grad
        can_be = can_compile(self.features, points, with_gradients=True) and not wants_gradient
        needs = "float32 on the CPU and points without gradients"
        if takes_compiled(backend, can_be=can_be, needs=needs, got=points):
            return _MeanOfPlanes.apply(self.features, self._unit(points), _AXES[self.layout])  # pyright: ignore[reportReturnType]
        return self.sample_each(points).mean(1)

    def _unit(self, points: Tensor) -> Tensor:
        """Points with the cube's sides at -1 and 1."""
        batch = len(self.features)
        if points.ndim != 3 or points.shape[2] != 3 or len(points) != batch:
            raise ValueError(f"points must be [{batch}, N, 3] like the planes' batch, got {tuple(points.shape)}")
        return points * (2.0 / self.box_warp)

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, index: slice) -> "TriPlanes":
        return replace(self, features=self.features[index])

    def to(self, *args: torch.device | torch.dtype | str) -> "TriPlanes":
        """The planes on another device or in another dtype; arguments as for `Tensor.to`."""
        return replace(self, features=self.features.to(*args))  # pyright: ignore[reportCallIssue, reportArgumentType]


def _sample_each(features: Tensor, points: Tensor, axes: Axes) -> Tensor:
    """Planes `[B, 3, C, H, W]` read at points `[B, N, 3]` within -1 and 1, as `[B, 3, N, C]`."""
    grid = torch.stack([points[..., pair] for pair in axes], 1).flatten(0, 1)[:, :, None]
    sampled = F.grid_sample(features.flatten(0, 1), grid, mode="bilinear", align_corners=False)
    return sampled.unflatten(0, (-1, 3))[..., 0].transpose(2, 3)


class _MeanOfPlanes(torch.autograd.Function):
    """Reads planes `[B, 3, C, H, W]` at points `[B, N, 3]` within -1 and 1, as `[B, N, C]`."""

    @staticmethod
    def forward(ctx, features, points, axes):
        from portrait4d.render.planes_numba import mean_of_planes

        planes, points = features.permute(0, 1, 3, 4, 2).contiguous().numpy(), points.contiguous()
        ctx.save_for_backward(features, points)
        ctx.axes = axes
        found = points.new_empty((*points.shape[:2], features.shape[2]))
        for three, place, rows in zip(planes, points.numpy(), found.numpy(), strict=True):
            split_range(len(rows), mean_of_planes, three, np.array(axes), place, rows)
        return found

    @staticmethod
    def backward(ctx, gradient):
        from portrait4d.render.planes_numba import spread_to_planes

        features, points = ctx.saved_tensors
        if torch.is_grad_enabled():
            found = differentiable_gradients(
                lambda planes: _sample_each(planes, points, ctx.axes).mean(1), [features], [gradient], [True]
            )
            return *found, None, None
        found = gradient.new_zeros(features.permute(0, 1, 3, 4, 2).shape)
        given = gradient.contiguous().numpy()
        for three, place, rows in zip(found.numpy(), points.numpy(), given, strict=True):
            split_range(3, spread_to_planes, three, np.array(ctx.axes), place, rows)
        return found.permute(0, 1, 4, 2, 3), None, None
