"""Finds the triangle nearest to each of many points. Torch defines the result; numba computes it faster on a CPU.

Distances follow pytorch3d's point-to-face distance, with which the released networks were trained: a triangle smaller
than `min_area` counts as its three edges, and among triangles at the same distance the last one wins.
Not differentiable.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Backend = Literal["auto", "torch", "numba"]

PYTORCH3D_MIN_AREA = 5e-3
_EPSILON = 1e-8
_PAIRS_AT_ONCE = 2**21


class NearestTriangle(NamedTuple):
    """The nearest triangle of each point: `squared_distance` `[N]` and `face` `[N]` int64."""

    squared_distance: Tensor
    face: Tensor


@torch.no_grad()
def nearest_triangle(
    points: Tensor, triangles: Tensor, *, min_area: float = PYTORCH3D_MIN_AREA, backend: Backend = "auto"
) -> NearestTriangle:
    """Finds the nearest triangle of each point.

    Args:
        points: `[N, 3]`.
        triangles: `[T, 3, 3]` corners.
        min_area: triangles below this area are measured at their edges only.
        backend: "numba" needs float32 tensors on a CPU; "auto" takes it for those, otherwise "torch".
    """
    if points.ndim != 2 or points.shape[1] != 3 or triangles.ndim != 3 or triangles.shape[1:] != (3, 3):
        raise ValueError(
            f"expected points [N, 3] and triangles [T, 3, 3], got {tuple(points.shape)} and {tuple(triangles.shape)}"
        )
    if not len(triangles):
        raise ValueError("expected at least one triangle, got none")
    if backend not in ("auto", "torch", "numba"):
        raise ValueError(f"backend must be 'auto', 'torch' or 'numba', got {backend!r}")
    can_compile = points.device.type == "cpu" and points.dtype == torch.float32 == triangles.dtype
    if backend == "numba" and not can_compile:
        raise ValueError(f"backend 'numba' needs float32 on the CPU, got {points.dtype} on {points.device}")
    if backend != "torch" and can_compile:
        from flame.mesh.nearest_triangle_numba import nearest_triangle_numba

        return NearestTriangle(*nearest_triangle_numba(points, triangles, min_area))
    step = max(_PAIRS_AT_ONCE // len(triangles), 1)
    parts = [_nearest(part, triangles, min_area) for part in points.split(step)]
    return NearestTriangle(torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts]))


def _nearest(points: Tensor, triangles: Tensor, min_area: float) -> tuple[Tensor, Tensor]:
    a, b, c = triangles.unbind(1)
    distance = torch.minimum(
        torch.minimum(_to_segment(points, a, b), _to_segment(points, a, c)), _to_segment(points, b, c)
    )
    normal = torch.linalg.cross(b - a, c - a)
    length = normal.norm(dim=-1)
    unit = normal / length.clamp(min=_EPSILON)[:, None]
    height = ((a - points[:, None]) * unit).sum(-1)
    inside = _is_inside(points[:, None] + height[..., None] * unit, a, b, c)
    inside &= (0.5 * length >= min_area) & (length > _EPSILON)
    distance = torch.where(inside, height.square(), distance)
    least = distance.amin(1)
    index = torch.arange(len(triangles), device=points.device)
    last = torch.where(distance == least[:, None], index, -1).amax(1)
    return least, last


def _to_segment(points: Tensor, start: Tensor, stop: Tensor) -> Tensor:
    """Returns squared distances `[N, T]`."""
    along = stop - start
    squared = along.square().sum(-1)
    offset = points[:, None] - start
    place = ((offset * along).sum(-1) / squared.clamp(min=_EPSILON)).clamp(0, 1)
    rest = points[:, None] - (start + place[..., None] * along)
    distance = rest.square().sum(-1)
    is_point = squared <= _EPSILON
    return torch.where(is_point, (points[:, None] - stop).square().sum(-1), distance) if is_point.any() else distance


def _is_inside(points: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Returns whether points `[N, T, 3]` of the triangles' planes lie within them."""
    first, second, offset = b - a, c - a, points - a
    aa, ab, bb = first.square().sum(-1), (first * second).sum(-1), second.square().sum(-1)
    ap, bp = (offset * first).sum(-1), (offset * second).sum(-1)
    scale = aa * bb - ab * ab + _EPSILON
    v, w = (bb * ap - ab * bp) / scale, (aa * bp - ab * ap) / scale
    u = 1.0 - v - w
    return (u >= 0) & (u <= 1) & (v >= 0) & (v <= 1) & (w >= 0) & (w <= 1)
