"""The search of `nearest_triangle.py`, compiled by numba at first use: the same triangles, faster."""

import numba
import numpy as np
import torch
from torch import Tensor

from flame.compiled import compiled


def nearest_triangle_numba(points: Tensor, triangles: Tensor, min_area: float) -> tuple[Tensor, Tensor]:
    """Takes and returns what `flame.mesh.nearest_triangle.nearest_triangle` does."""
    corners = np.ascontiguousarray(triangles.numpy())
    centre = corners.mean(1)
    radius = np.linalg.norm(corners - centre[:, None], axis=2).max(1) * 1.001 + 1e-6
    distance = np.empty(len(points), dtype=np.float32)
    face = np.empty(len(points), dtype=np.int64)
    _search(np.ascontiguousarray(points.numpy()), corners, centre, radius, np.float32(min_area), distance, face)
    return torch.from_numpy(distance), torch.from_numpy(face)


@numba.njit
def _to_segment(p, a, b):
    epsilon = np.float32(1e-8)
    ex, ey, ez = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    ox, oy, oz = p[0] - a[0], p[1] - a[1], p[2] - a[2]
    squared = ex * ex + ey * ey + ez * ez
    if squared <= epsilon:
        rx, ry, rz = p[0] - b[0], p[1] - b[1], p[2] - b[2]
    else:
        place = (ex * ox + ey * oy + ez * oz) / squared
        place = min(max(place, np.float32(0)), np.float32(1))
        rx, ry, rz = p[0] - (a[0] + place * ex), p[1] - (a[1] + place * ey), p[2] - (a[2] + place * ez)
    return rx * rx + ry * ry + rz * rz


@numba.njit
def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@numba.njit
def _sub(a, b):
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


@numba.njit
def _height_inside(p, a, b, c, min_area):
    """Returns the squared distance to the triangle's plane, or -1 where the nearest point of it lies outside."""
    epsilon = np.float32(1e-8)
    first, second = _sub(b, a), _sub(c, a)
    nx = first[1] * second[2] - first[2] * second[1]
    ny = first[2] * second[0] - first[0] * second[2]
    nz = first[0] * second[1] - first[1] * second[0]
    length = np.sqrt(nx * nx + ny * ny + nz * nz)
    if np.float32(0.5) * length < min_area or length <= epsilon:
        return np.float32(-1)
    unit = (nx / length, ny / length, nz / length)
    height = _dot(_sub(a, p), unit)
    offset = _sub((p[0] + height * unit[0], p[1] + height * unit[1], p[2] + height * unit[2]), a)
    aa, ab, bb = _dot(first, first), _dot(first, second), _dot(second, second)
    ap, bp = _dot(offset, first), _dot(offset, second)
    scale = aa * bb - ab * ab + epsilon
    v, w = (bb * ap - ab * bp) / scale, (aa * bp - ab * ap) / scale
    u = np.float32(1) - v - w
    if u >= 0 and u <= 1 and v >= 0 and v <= 1 and w >= 0 and w <= 1:
        return height * height
    return np.float32(-1)


@compiled(error_model="numpy")
def _search(points, corners, centre, radius, min_area, distance, face):
    for index in range(len(points)):
        p = points[index]
        best, chosen, reach = np.float32(np.inf), 0, np.float32(np.inf)
        for triangle in range(len(corners)):
            # farther than the best even at the nearest point of its bounding sphere
            gap = reach + radius[triangle]
            away = _sub(p, centre[triangle])
            if _dot(away, away) > gap * gap:
                continue
            a, b, c = corners[triangle, 0], corners[triangle, 1], corners[triangle, 2]
            found = _height_inside(p, a, b, c, min_area)
            if found < 0:
                found = min(min(_to_segment(p, a, b), _to_segment(p, a, c)), _to_segment(p, b, c))
            if found <= best:
                best, chosen = found, triangle
                reach = np.sqrt(best) * np.float32(1.001) + np.float32(1e-6)
        distance[index], face[index] = best, chosen
