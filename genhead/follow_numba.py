"""The sum over a ring of `parts.VertexField`, compiled by numba at first use."""

import numpy as np
import torch
from torch import Tensor

from flame.compiled import compiled


def follow_numba(points: Tensor, rings: Tensor, vertices: Tensor, offsets: Tensor, *, tiny: float) -> Tensor:
    """Moves points `[N, 3]` with vertices `rings` `[N, K]`, by inverse squared distance."""
    moved = np.empty((len(points), 3), dtype=np.float32)
    arrays = (np.ascontiguousarray(tensor.detach().numpy()) for tensor in (points, rings, vertices, offsets))
    _follow(*arrays, np.float32(tiny), moved)
    return torch.from_numpy(moved)


@compiled(error_model="numpy")
def _follow(points, rings, vertices, offsets, tiny, moved):
    for index in range(len(points)):
        x, y, z = points[index, 0], points[index, 1], points[index, 2]
        total, ox, oy, oz = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
        for entry in range(rings.shape[1]):
            vertex = rings[index, entry]
            dx, dy, dz = x - vertices[vertex, 0], y - vertices[vertex, 1], z - vertices[vertex, 2]
            weight = np.float32(1) / (dx * dx + dy * dy + dz * dz + tiny)
            total += weight
            ox += weight * offsets[vertex, 0]
            oy += weight * offsets[vertex, 1]
            oz += weight * offsets[vertex, 2]
        ox, oy, oz = ox / total, oy / total, oz / total
        moved[index, 0], moved[index, 1], moved[index, 2] = x + ox, y + oy, z + oz
