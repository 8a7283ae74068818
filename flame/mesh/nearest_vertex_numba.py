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
    distance = np.empty(len(points), dtype=np.float32)
    vertex = np.empty(len(points), dtype=np.int64)
    _search(np.ascontiguousarray(points.detach().numpy()), *_sort_into_cells(places, _CELLS), distance, vertex)
    return torch.from_numpy(distance), torch.from_numpy(vertex)


@compiled(error_model="numpy")
def _sort_into_cells(places, num_cells):
    """Vertices by cell, which each of them was, and where each cell begins and ends, its centre and its radius."""
    low, high = places[0].copy(), places[0].copy()
    for place in places:
        for axis in range(3):
            low[axis], high[axis] = min(low[axis], place[axis]), max(high[axis], place[axis])
    side = max((high - low).max() / np.float32(num_cells), np.float32(1e-12))
    across = num_cells + 1
    key = np.empty(len(places), np.int64)
    ends = np.zeros(across**3 + 1, np.int64)
    for index in range(len(places)):
        cell = 0
        for axis in range(3):
            cell = cell * across + min(int((places[index, axis] - low[axis]) / side), num_cells)
        key[index] = cell
        ends[cell + 1] += 1
    ends = np.cumsum(ends)
    order, next_place = np.empty(len(places), np.int64), ends[:-1].copy()
    for index in range(len(places)):
        order[next_place[key[index]]] = index
        next_place[key[index]] += 1
    used = np.flatnonzero(ends[1:] > ends[:-1])
    starts, stops = ends[used], ends[used + 1]
    sorted_places = places[order]
    centres, radii = np.zeros((len(used), 3), np.float32), np.zeros(len(used), np.float32)
    for cell in range(len(used)):
        for index in range(starts[cell], stops[cell]):
            centres[cell] += sorted_places[index] / np.float32(stops[cell] - starts[cell])
        for index in range(starts[cell], stops[cell]):
            away = np.sqrt(((sorted_places[index] - centres[cell]) ** 2).sum())
            radii[cell] = max(radii[cell], away * np.float32(1.001) + np.float32(1e-6))
    return sorted_places, order, starts, stops, centres, radii


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
