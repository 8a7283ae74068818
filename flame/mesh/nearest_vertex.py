"""Finds the vertex nearest to each of many points. Torch defines the result; numba computes it faster on a CPU.

Squared distances are summed over x, y, z in float32, and among equally near vertices the first one wins, as in
pytorch3d's `knn_points`, with which the released networks were trained. Not differentiable.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Backend = Literal["auto", "torch", "numba"]

_PAIRS_AT_ONCE = 2**22


class NearestVertex(NamedTuple):
    """The nearest vertex of each point: `squared_distance` `[N]` and `vertex` `[N]` int64."""

    squared_distance: Tensor
    vertex: Tensor


@torch.no_grad()
def nearest_vertex(points: Tensor, vertices: Tensor, *, backend: Backend = "auto") -> NearestVertex:
    """Finds the nearest vertex of each point.

    Args:
        points: `[N, 3]`.
        vertices: `[V, 3]`.
        backend: "numba" needs float32 tensors on a CPU and is fastest where neighbours in the list are neighbours in
            space; "auto" takes it for those, otherwise "torch".
    """
    if points.ndim != 2 or points.shape[1] != 3 or vertices.ndim != 2 or vertices.shape[1] != 3:
        raise ValueError(f"expected points [N, 3] and vertices [V, 3], got {points.shape} and {vertices.shape}")
    if not len(vertices):
        raise ValueError("expected at least one vertex, got none")
    if backend not in ("auto", "torch", "numba"):
        raise ValueError(f"backend must be 'auto', 'torch' or 'numba', got {backend!r}")
    can_compile = points.device.type == "cpu" and points.dtype == torch.float32 == vertices.dtype
    if backend == "numba" and not can_compile:
        raise ValueError(f"backend 'numba' needs float32 on the CPU, got {points.dtype} on {points.device}")
    if backend != "torch" and can_compile:
        from flame.mesh.nearest_vertex_numba import nearest_vertex_numba

        return NearestVertex(*nearest_vertex_numba(points, vertices))
    parts = [_nearest(part, vertices) for part in points.split(max(_PAIRS_AT_ONCE // len(vertices), 1))]
    if not parts:
        return NearestVertex(points.new_empty(0), torch.empty(0, dtype=torch.int64, device=points.device))
    return NearestVertex(torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts]))


def _nearest(points: Tensor, vertices: Tensor) -> tuple[Tensor, Tensor]:
    total = points.new_zeros(len(points), len(vertices))
    for axis in range(3):
        total = total + (points[:, None, axis] - vertices[None, :, axis]).square()
    least = total.amin(1)
    index = torch.arange(len(vertices), device=points.device)
    return least, torch.where(total == least[:, None], index, len(vertices)).amin(1)
