"""The reading of `part_grids.OffsetGrid`, compiled by numba at first use."""

import numba
import numpy as np
import torch
from torch import Tensor

from flame.compiled import compiled


def move_numba(points: Tensor, values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Points `[B, N, 3]` with offsets `[B, 3, X, Y, Z]` between nodes from `low` to `high`, `[B, 3]`, added."""
    nodes = values.permute(0, 2, 3, 4, 1).contiguous().detach().numpy()
    last = torch.tensor(values.shape[2:]) - 1
    scale = (last / (high - low)).numpy()
    moved = np.empty(tuple(points.shape), dtype=np.float32)
    arrays = nodes, low.numpy(), scale, points.contiguous().detach().numpy(), moved
    for row in zip(*arrays, strict=True):
        _move(*row)
    return torch.from_numpy(moved)


@numba.njit(error_model="numpy")
def _between(place, count):
    """The node before a place in nodes, kept within the grid, and how far the place is from it, from 0 to 1."""
    place = min(place, np.float32(count - 1)) if place > 0 else np.float32(0)  # not a number, too, becomes 0
    node = min(int(place), count - 2)
    return node, place - np.float32(node)


@compiled(error_model="numpy", fastmath={"contract"})
def _move(nodes, low, scale, points, moved):
    for index in range(len(points)):
        x, u = _between((points[index, 0] - low[0]) * scale[0], nodes.shape[0])
        y, v = _between((points[index, 1] - low[1]) * scale[1], nodes.shape[1])
        z, w = _between((points[index, 2] - low[2]) * scale[2], nodes.shape[2])
        for axis in range(3):
            total = np.float32(0)
            for corner in range(8):
                i, j, k = corner >> 2, (corner >> 1) & 1, corner & 1
                share = u if i else np.float32(1) - u
                share *= v if j else np.float32(1) - v
                share *= w if k else np.float32(1) - w
                total += share * nodes[x + i, y + j, z + k, axis]
            moved[index, axis] = points[index, axis] + total
