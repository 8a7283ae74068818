"""The rasteriser of `raster.py` compiled by numba at first use: the same pixels, faster."""

import numba
import numpy as np
import torch
from torch import Tensor

from flame.compiled import compiled
from flame.mesh.fragments import NEAR, Fragments


def rasterize_numba(points: Tensor, faces: Tensor, height: int, width: int, cull_backfaces: bool) -> Fragments:
    """One image; arguments and result as in `flame.mesh.raster.rasterize`."""
    corners, triangles = _arrays(points, faces)
    face_id = np.full((height, width), -1, dtype=np.int64)
    depth = np.full((height, width), np.inf, dtype=np.float32)
    barycentric = np.zeros((height, width, 3), dtype=np.float32)
    _fill(corners, triangles, cull_backfaces, face_id, depth)
    _barycentrics(corners, triangles, face_id, barycentric)
    return Fragments(
        torch.from_numpy(face_id),
        torch.from_numpy(barycentric).to(points.dtype),
        torch.from_numpy(depth).to(points.dtype),
    )


def cover_numba(points: Tensor, faces: Tensor, height: int, width: int, cull_backfaces: bool) -> Tensor:
    """One image; arguments and result as in `flame.mesh.raster.cover`."""
    is_covered = np.zeros((height, width), dtype=np.bool_)
    _cover(*_arrays(points, faces), cull_backfaces, is_covered)
    return torch.from_numpy(is_covered)


def _arrays(points: Tensor, faces: Tensor) -> tuple[np.ndarray, np.ndarray]:
    corners = np.ascontiguousarray(points.numpy(), dtype=np.float32 if points.dtype != torch.float64 else np.float64)
    return corners, np.ascontiguousarray(faces.numpy(), dtype=np.int64)


@numba.njit(error_model="numpy")
def _front_triangle(points, faces, face, cull_backfaces):
    """Whether a triangle is drawn, and its corners x, y, z one after the other, wound to a positive area."""
    i, j, k = faces[face, 0], faces[face, 1], faces[face, 2]
    x0, y0, z0 = float(points[i, 0]), float(points[i, 1]), float(points[i, 2])
    x1, y1, z1 = float(points[j, 0]), float(points[j, 1]), float(points[j, 2])
    x2, y2, z2 = float(points[k, 0]), float(points[k, 1]), float(points[k, 2])
    area = (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0)
    # also drops infinities and not-a-numbers
    is_finite = abs(area) > 0.0 and abs(area) < np.inf and z0 + z1 + z2 < np.inf
    is_drawn = z0 > NEAR and z1 > NEAR and z2 > NEAR and is_finite and not (cull_backfaces and area > 0)
    if area < 0:
        return is_drawn, x0, y0, z0, x2, y2, z2, x1, y1, z1
    return is_drawn, x0, y0, z0, x1, y1, z1, x2, y2, z2


@numba.njit(error_model="numpy")
def _pixel_range(a, b, c, count):
    """The half-open range of pixel centres between the least and the largest of three coordinates."""
    least, most = (a if a < b else b), (a if a > b else b)
    least, most = (c if c < least else least), (c if c > most else most)
    low = min(max(least - 0.5, 0.0), float(count))
    first = int(low)  # rounded up and down by hand: calls of ceil and floor take longer
    return first + (first < low), int(min(max(most + 0.5, 0.0), float(count)))


@numba.njit(error_model="numpy")
def _edge(ax, ay, bx, by):
    """The edge from a to b as (sign, origin x, y, step x, y), from its smaller to its larger end."""
    if ax > bx or (ax == bx and ay > by):
        return -1.0, bx, by, ax - bx, ay - by
    return 1.0, ax, ay, bx - ax, by - ay


@numba.njit(error_model="numpy")
def _is_outside(area, sign):
    """Whether a signed area beside an edge is outside; a zero belongs to one of the edge's two triangles."""
    return area < 0.0 or (area == 0.0 and sign < 0.0)


@compiled(error_model="numpy")
def _fill(points, faces, cull_backfaces, face_id, depth):
    height, width = depth.shape
    for face in range(len(faces)):
        is_drawn, x0, y0, z0, x1, y1, z1, x2, y2, z2 = _front_triangle(points, faces, face, cull_backfaces)
        if not is_drawn:
            continue
        row_low, row_high = _pixel_range(y0, y1, y2, height)
        column_low, column_high = _pixel_range(x0, x1, x2, width)
        s0, ox0, oy0, dx0, dy0 = _edge(x1, y1, x2, y2)
        s1, ox1, oy1, dx1, dy1 = _edge(x2, y2, x0, y0)
        s2, ox2, oy2, dx2, dy2 = _edge(x0, y0, x1, y1)
        for row in range(row_low, row_high):
            y = row + 0.5
            r0, r1, r2 = dx0 * (y - oy0), dx1 * (y - oy1), dx2 * (y - oy2)
            for column in range(column_low, column_high):
                x = column + 0.5
                e0 = s0 * (r0 - dy0 * (x - ox0))
                e1 = s1 * (r1 - dy1 * (x - ox1))
                e2 = s2 * (r2 - dy2 * (x - ox2))
                if _is_outside(e0, s0) or _is_outside(e1, s1) or _is_outside(e2, s2):
                    continue
                z = np.float32((e0 + e1 + e2) / (e0 / z0 + e1 / z1 + e2 / z2))
                if z < depth[row, column]:
                    depth[row, column] = z
                    face_id[row, column] = face


@compiled(error_model="numpy")
def _cover(points, faces, cull_backfaces, is_covered):
    height, width = is_covered.shape
    for face in range(len(faces)):
        is_drawn, x0, y0, _, x1, y1, _, x2, y2, _ = _front_triangle(points, faces, face, cull_backfaces)
        if not is_drawn:
            continue
        row_low, row_high = _pixel_range(y0, y1, y2, height)
        column_low, column_high = _pixel_range(x0, x1, x2, width)
        if is_covered[row_low:row_high, column_low:column_high].all():
            continue
        s0, ox0, oy0, dx0, dy0 = _edge(x1, y1, x2, y2)
        s1, ox1, oy1, dx1, dy1 = _edge(x2, y2, x0, y0)
        s2, ox2, oy2, dx2, dy2 = _edge(x0, y0, x1, y1)
        for row in range(row_low, row_high):
            y = row + 0.5
            r0, r1, r2 = dx0 * (y - oy0), dx1 * (y - oy1), dx2 * (y - oy2)
            for column in range(column_low, column_high):
                x = column + 0.5
                # all three at once: a branch for each is guessed wrongly too often
                is_inside = (
                    ((r0 - dy0 * (x - ox0) >= 0.0) == (s0 > 0.0))
                    & ((r1 - dy1 * (x - ox1) >= 0.0) == (s1 > 0.0))
                    & ((r2 - dy2 * (x - ox2) >= 0.0) == (s2 > 0.0))
                )
                is_covered[row, column] |= is_inside


@compiled(error_model="numpy")
def _barycentrics(points, faces, face_id, barycentric):
    height, width = face_id.shape
    for row in range(height):
        for column in range(width):
            face = face_id[row, column]
            if face < 0:
                continue
            i, j, k = faces[face, 0], faces[face, 1], faces[face, 2]
            x, y = column + 0.5, row + 0.5
            x0, y0 = float(points[i, 0]) - x, float(points[i, 1]) - y
            x1, y1 = float(points[j, 0]) - x, float(points[j, 1]) - y
            x2, y2 = float(points[k, 0]) - x, float(points[k, 1]) - y
            w0 = (x1 * y2 - y1 * x2) / float(points[i, 2])
            w1 = (x2 * y0 - y2 * x0) / float(points[j, 2])
            w2 = (x0 * y1 - y0 * x1) / float(points[k, 2])
            total = w0 + w1 + w2
            barycentric[row, column, 0] = w0 / total
            barycentric[row, column, 1] = w1 / total
            barycentric[row, column, 2] = w2 / total
