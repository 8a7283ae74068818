"""A triangle mesh from a field: densities on a grid, marching cubes (Lorensen and Cline 1987), vertex colours."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flame.errors import InputError
from portrait4d.render.field import Field
from portrait4d.render.renderer import DEFAULT_MAX_POINTS
from portrait4d.render.shape_config import ShapeConfig
from preprocess.media.mesh_files import vertex_normals

_REFERENCE_STEPS = 32
"""The automatic level takes opacities over a step of one 32nd of the cube's side."""

_MAX_SAMPLED_SIDE = 96
_LEAST_CONTRAST = 1e-3
"""Smallest difference of opacity at which empty and full can be distinguished."""


@dataclass(frozen=True)
class Shape:
    """A closed surface in the field's world units.

    Attributes:
        vertices: float32 `[V, 3]`.
        faces: int64 `[F, 3]`, counter-clockwise from outside.
        normals: float32 `[V, 3]`, outward.
        colours: uint8 `[V, 3]`, the field's first three features.
        iso: raw density of the surface.
        density_range: least and greatest raw density of the grid.
    """

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray
    colours: np.ndarray
    iso: float
    density_range: tuple[float, float]


def ignore_steps(done: int, total: int) -> None:
    """Does nothing; the default callback."""


def extract_shape(
    field: Field,
    config: ShapeConfig,
    *,
    box_size: float,
    like: Tensor,
    max_points: int = DEFAULT_MAX_POINTS,
    on_step: Callable[[int, int], None] = ignore_steps,
) -> Shape:
    """The surface of a field of batch 1, closed where it meets the border of the region.

    Args:
        field: the volume.
        config: how the surface is extracted.
        box_size: side of the field's cube around the origin, in world units.
        like: gives the dtype and device of the points at which the field is sampled.
        max_points: points sampled at once.
        on_step: called with the number of points done and of all.

    Raises:
        InputError: the iso level is not among the field's densities, or the field is the same everywhere.
    """
    side = box_size * (1 - 2 * config.margin)
    densities = density_grid(
        field, side=side, resolution=config.resolution, like=like, max_points=max_points, on_step=on_step
    )
    low, high = float(densities.min()), float(densities.max())
    iso = automatic_iso(densities, box_size=box_size) if config.iso is None else config.iso
    if not low < iso < high:
        raise InputError(
            f"expected an iso level between {low:.4g} and {high:.4g}, the densities of this volume, got {iso:g}: "
            f"leave it out to have one chosen"
        )
    vertices, faces = surface(densities, iso, side=side)
    if not config.keeps_all_parts:
        vertices, faces = largest_part(vertices, faces)
    colours = _colours(field, vertices, like=like, max_points=max_points)
    return Shape(vertices, faces, vertex_normals(vertices, faces), colours, iso, (low, high))


@torch.no_grad()
def density_grid(
    field: Field,
    *,
    side: float,
    resolution: int,
    like: Tensor,
    max_points: int = DEFAULT_MAX_POINTS,
    on_step: Callable[[int, int], None] = ignore_steps,
) -> np.ndarray:
    """Raw densities float32 `[N, N, N]` by x, y, z at the centres of N^3 cells of a cube around the origin.

    Raises:
        InputError: a density is not a finite number.
    """
    count = resolution**3
    densities = np.empty(count, np.float32)
    centres = ((torch.arange(resolution, dtype=torch.float64) + 0.5) / resolution - 0.5).mul(side).to(like)
    for start in range(0, count, max_points):
        cell = torch.arange(start, min(start + max_points, count), device=like.device)
        indices = [cell // resolution**2, cell // resolution % resolution, cell % resolution]
        points = torch.stack([centres[index] for index in indices], 1)
        found = field(points[None]).density[0]
        densities[start : start + len(cell)] = found.float().cpu().numpy()
        on_step(start + len(cell), count)
    if not np.isfinite(densities).all():
        raise InputError("the field gives densities that are not finite: are these the weights of this network?")
    return densities.reshape(resolution, resolution, resolution)


def automatic_iso(densities: np.ndarray, *, box_size: float) -> float:
    """A raw density between empty and full, chosen by the opacity that a viewer sees.

    Densities are compared by the opacity `1 - exp(-softplus(density - 1) * step)` that the renderer gives to a step of
    `box_size / 32`. Otsu's method (1979) divides the grid's opacities into two classes; the level lies in the middle
    between their means.

    Raises:
        InputError: the field is equally opaque everywhere.
    """
    from skimage.filters import threshold_otsu

    step = box_size / _REFERENCE_STEPS
    stride = max(1, len(densities) // _MAX_SAMPLED_SIDE)  # all of a fine grid would cost memory and give the same
    sampled = densities[::stride, ::stride, ::stride].astype(np.float64)
    opacity = -np.expm1(-np.logaddexp(0.0, sampled - 1) * step)
    if np.ptp(opacity) < _LEAST_CONTRAST:
        raise InputError(
            f"this volume is equally opaque everywhere (densities {densities.min():.4g} to {densities.max():.4g}): "
            f"it has no surface to find; give an iso level between the two"
        )
    is_full = opacity > threshold_otsu(opacity)
    middle = 0.5 * (opacity[is_full].mean() + opacity[~is_full].mean())
    return float(1 + np.log(np.expm1(-np.log1p(-middle) / step)))


def surface(densities: np.ndarray, iso: float, *, side: float) -> tuple[np.ndarray, np.ndarray]:
    """Vertices `[V, 3]` and faces `[F, 3]` of the level set of a grid that `density_grid` made.

    Whatever reaches the border of the cube is closed there, exactly on it.
    """
    from skimage.measure import marching_cubes

    resolution = len(densities)
    padded = np.empty((resolution + 2,) * 3, np.float32)
    padded[1:-1, 1:-1, 1:-1] = densities
    _close_border(padded, iso)
    # "descent", for a dense inside, would turn the triangles inward: it counts on a left-handed order of the axes
    places, faces, _, _ = marching_cubes(padded, iso, gradient_direction="ascent")
    vertices = ((places - 0.5) / resolution - 0.5) * side  # place 1 is the centre of the first cell
    return vertices.astype(np.float32), faces.astype(np.int64)


def largest_part(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The connected part with the largest surface: on an even grid the one with the most triangles."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    start, end = np.concatenate([faces[:, :2], faces[:, 1:]]).T
    links = coo_matrix((np.ones(len(start), np.int8), (start, end)), shape=(len(vertices), len(vertices)))
    _, part = connected_components(links, directed=False)
    is_kept = part == np.bincount(part[faces[:, 0]]).argmax()
    number = np.cumsum(is_kept) - 1
    return vertices[is_kept], number[faces[is_kept[faces[:, 0]]]]


def _close_border(padded: np.ndarray, iso: float) -> None:
    """Fills the outermost layers with values as far below the level as the layer beneath is above it."""
    inside = slice(1, -1)
    # later axes cover the edges and corners that earlier ones have left
    for axis, done in enumerate([(), (slice(None),), (slice(None), slice(None))]):
        rest = (inside,) * (2 - axis)
        for outer, inner in ((0, 1), (-1, -2)):
            beneath = padded[(*done, inner, *rest)]
            padded[(*done, outer, *rest)] = np.where(beneath > iso, 2 * iso - beneath, beneath)


@torch.no_grad()
def _colours(field: Field, vertices: np.ndarray, *, like: Tensor, max_points: int) -> np.ndarray:
    parts = []
    for start in range(0, len(vertices), max_points):
        points = torch.from_numpy(vertices[start : start + max_points]).to(like)
        features = field(points[None]).features[0, :, :3]
        parts.append((features.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy())
    return np.concatenate(parts)
