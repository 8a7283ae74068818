"""The search of `nearest_vertex.py`, compiled by numba at first use: the same vertices, faster.

Vertices are gathered into cells of space; a cell whose bounding sphere is farther than the best so far is passed over.
Each point starts from the answer of the one before it, which is near where points come along rays or rows of a grid.
"""

import numpy as np
import torch
from torch import Tensor

from flame.compiled import compiled

_CELLS = 8
"""Cells along the longest side of the vertices' box."""


def nearest_vertex_numba(points: Tensor, vertices: Tensor) -> tuple[Tensor, Tensor]:
    """Takes and returns what `flame.mesh.nearest_vertex.nearest_vertex` does."""
    places = np.ascontiguousarray(vertices.detach().numpy())
    low = places.min(0)
    side = max(float((places.max(0) - low).max()) / _CELLS, 1e-12)
    cell = np.floor((places - low) / side).astype(np.int64)
    key = (cell[:, 0] * (_CELLS + 1) + cell[:, 1]) * (_CELLS + 1) + cell[:, 2]
    order = np.argsort(key, kind="stable")
    starts = np.flatnonzero(np.diff(key[order], prepend=-1))
    ends = np.append(starts[1:], len(order))
    sorted_places = np.ascontiguousarray(places[order])
    centres = (np.add.reduceat(sorted_places, starts) / (ends - starts)[:, None]).astype(np.float32)
    away = np.linalg.norm(sorted_places - np.repeat(centres, ends - starts, 0), axis=1)
    radii = (np.maximum.reduceat(away, starts) * 1.001 + 1e-6).astype(np.float32)
    distance = np.empty(len(points), dtype=np.float32)
    vertex = np.empty(len(points), dtype=np.int64)
    cells = (starts, ends, centres, radii)
    _search(np.ascontiguousarray(points.detach().numpy()), sorted_places, order, *cells, distance, vertex)
    return torch.from_numpy(distance), torch.from_numpy(vertex)


@compiled(error_model="numpy")
def _search(points, places, order, starts, ends, centres, radii, distance, vertex):
    start = 0
    for index in range(len(points)):
        x, y, z = points[index, 0], points[index, 1], points[index, 2]
        dx, dy, dz = x - places[start, 0], y - places[start, 1], z - places[start, 2]
        best, chosen = dx * dx + dy * dy + dz * dz, start
        reach = np.sqrt(best) * np.float32(1.001) + np.float32(1e-6)
        for cell in range(len(starts)):
            dx, dy, dz = x - centres[cell, 0], y - centres[cell, 1], z - centres[cell, 2]
            gap = reach + radii[cell]
            if dx * dx + dy * dy + dz * dz > gap * gap:
                continue
            for candidate in range(starts[cell], ends[cell]):
                dx, dy, dz = x - places[candidate, 0], y - places[candidate, 1], z - places[candidate, 2]
                found = dx * dx + dy * dy + dz * dz
                if found < best or (found == best and order[candidate] < order[chosen]):
                    best, chosen = found, candidate
            reach = np.sqrt(best) * np.float32(1.001) + np.float32(1e-6)
        distance[index], vertex[index] = best, order[chosen]
        start = chosen
