"""The search of `nearest_vertex.py`, compiled by numba at first use: the same vertices, faster.

Vertices are gathered into cells of space; a cell whose bounding sphere is farther than the best so far is passed over.
All distances to a cell's vertices are computed before any is compared, several with one instruction of the processor.
Each point starts from the answer of the one before it, which is near where points come along rays or rows of a grid.
"""

import numba
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
    """Vertices by cell `[3, V]`, which each of them was, and each cell's begin, end, centre `[3, cells]` and radius."""
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
    sorted_places = np.empty((3, len(places)), np.float32)
    for index in range(len(places)):
        for axis in range(3):
            sorted_places[axis, index] = places[order[index], axis]
    centres, radii = np.zeros((3, len(used)), np.float32), np.zeros(len(used), np.float32)
    for cell in range(len(used)):
        for axis in range(3):
            for index in range(starts[cell], stops[cell]):
                centres[axis, cell] += sorted_places[axis, index] / np.float32(stops[cell] - starts[cell])
        for index in range(starts[cell], stops[cell]):
            square = np.float32(0)
            for axis in range(3):
                square += (sorted_places[axis, index] - centres[axis, cell]) ** 2
            radii[cell] = max(radii[cell], np.sqrt(square) * np.float32(1.001) + np.float32(1e-6))
    return sorted_places, order, starts, stops, centres, radii


@numba.njit(error_model="numpy")
def _squares(x, y, z, places, start, stop, found):
    """Writes the squared distances from a point to places `[3, N]`, those from start to stop."""
    xs, ys, zs = places[0, start:stop], places[1, start:stop], places[2, start:stop]
    for index in range(stop - start):
        dx, dy, dz = x - xs[index], y - ys[index], z - zs[index]
        found[index] = dx * dx + dy * dy + dz * dz


@compiled(error_model="numpy")
def _search(points, places, order, starts, stops, centres, radii, distance, vertex):
    chosen, to_cell, to_vertex = 0, np.empty(len(starts), np.float32), np.empty(len(order), np.float32)
    for index in range(len(points)):
        x, y, z = points[index, 0], points[index, 1], points[index, 2]
        dx, dy, dz = x - places[0, chosen], y - places[1, chosen], z - places[2, chosen]
        best = dx * dx + dy * dy + dz * dz
        reach = np.sqrt(best) * np.float32(1.001) + np.float32(1e-6)
        _squares(x, y, z, centres, 0, len(starts), to_cell)
        for cell in range(len(starts)):
            gap = reach + radii[cell]
            if to_cell[cell] > gap * gap:
                continue
            start = starts[cell]
            _squares(x, y, z, places, start, stops[cell], to_vertex)
            for candidate in range(start, stops[cell]):
                found = to_vertex[candidate - start]
                if found < best or (found == best and order[candidate] < order[chosen]):
                    best, chosen = found, candidate
            reach = np.sqrt(best) * np.float32(1.001) + np.float32(1e-6)
        distance[index], vertex[index] = best, order[chosen]
