"""The sheet: one grid over the whole canvas that moves hair, ears, neck and shoulders with the head, without a seam.

Inside the fitted head's outline a grid point follows the surface of the head under it. Outside, every quantity that
moves a point (its depth, its share of the head's motion, its response to each expression) is continued by a screened
Laplace equation, `(L + k) x = k x0`: smooth, equal to the head's at the outline, fading with distance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

SPACING = 8
"""Distance of grid points in canvas pixels."""


@dataclass(frozen=True)
class Grid:
    """A triangulated grid: `points` float32 [V, 2] in canvas pixels, row by row; `faces` int64 [F, 3]."""

    points: np.ndarray
    faces: np.ndarray
    rows: int
    columns: int


def make_grid(height: int, width: int) -> Grid:
    """A regular triangulated grid whose outermost points lie on the canvas border.

    Diagonals alternate, so that it bends alike in every direction.
    """
    rows, columns = height // SPACING + 1, width // SPACING + 1
    y, x = np.meshgrid(np.linspace(0, height, rows), np.linspace(0, width, columns), indexing="ij")
    points = np.stack([x, y], -1).reshape(-1, 2).astype(np.float32)
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = (part.ravel() for part in (index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]))
    even = ((np.arange(rows - 1)[:, None] + np.arange(columns - 1)[None]) % 2 == 0).ravel()
    # Counter-clockwise seen with y up: top-left, bottom-left, top-right.
    first = np.where(even[:, None], np.stack([a, c, b], -1), np.stack([a, c, d], -1))
    second = np.where(even[:, None], np.stack([b, c, d], -1), np.stack([a, d, b], -1))
    return Grid(points, np.concatenate([first, second]).astype(np.int64), rows, columns)


def laplacian(grid: Grid) -> scipy.sparse.csr_matrix:
    """Graph Laplacian [V, V] of the grid's 4-neighbourhood."""
    index = np.arange(grid.rows * grid.columns).reshape(grid.rows, grid.columns)
    start = np.concatenate([index[:, :-1].ravel(), index[:-1].ravel()])
    end = np.concatenate([index[:, 1:].ravel(), index[1:].ravel()])
    links = scipy.sparse.coo_matrix((np.ones(len(start)), (start, end)), shape=(index.size, index.size))
    links = links + links.T
    return (scipy.sparse.diags(np.asarray(links.sum(1)).ravel()) - links).tocsr()


def extend(
    grid: Grid,
    values: np.ndarray,
    fixed: np.ndarray,
    *,
    screening: np.ndarray | float = 0.0,
    target: np.ndarray | None = None,
) -> np.ndarray:
    """Continues values from fixed grid points to all others, float32 of the same shape.

    Solves `(L + k) x = k x0` on the free points, with the fixed ones as boundary.

    Args:
        grid: the grid.
        values: [V] or [V, C]; read at fixed points only.
        fixed: bool [V].
        screening: `k`, scalar or [V], in units of 1 / spacing²; a pull towards `target`.
        target: `x0` [V] or [V, C]; zero if omitted.
    """
    shape = values.shape
    columns = values.reshape(len(values), -1).astype(np.float64)
    strength = np.broadcast_to(np.asarray(screening, np.float64), (len(values),))
    matrix = (laplacian(grid) + scipy.sparse.diags(strength + 1e-9)).tocsr()
    free = ~fixed
    right = -matrix[free][:, fixed] @ columns[fixed]
    if target is not None:
        right = right + strength[free, None] * target.reshape(len(values), -1)[free]
    result = columns.copy()
    if free.any():
        result[free] = scipy.sparse.linalg.splu(matrix[free][:, free].tocsc()).solve(np.ascontiguousarray(right))
    return result.reshape(shape).astype(np.float32)


def drop_covered(grid: Grid, covered: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Faces [F, 3] to draw: not wholly under the face patch, and not wholly transparent.

    Args:
        grid: the grid.
        covered: bool [V], points far enough inside the face patch to be hidden by it.
        visible: bool [V], points with some opacity nearby.
    """
    keep = ~covered[grid.faces].all(1) & visible[grid.faces].any(1)
    return grid.faces[keep]
