"""Binds the canvas of one source to its fitted head.

The face patch follows the head model's triangles, the sheet its own grid; where they overlap, both move alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import scipy.sparse
import torch
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from flame.heads.head_model import HeadModel
from flame.landmarks.groups import NUM_MESH
from flame.mesh.raster import rasterize
from portrait4d.engines.lift.canvas import Canvas
from portrait4d.engines.lift.rig import Rig, vertex_normals
from portrait4d.engines.lift.sheet import Grid, drop_covered, extend, make_grid
from portrait4d.engines.lift.view import SourceView
from preprocess.tracking.motion import Motion

GRAZING = 0.5
"""Cosine between normal and view direction below which the sheet draws the skin at the side of the face."""

RESIDUAL_RADIUS = 0.022
"""How far one landmark's displacement reaches, in metres on the face with mouth and eyes open."""


def build_rig(
    model: HeadModel, motion: Motion, canvas: Canvas, source_residual: Tensor, landmark_weights: np.ndarray
) -> Rig:
    """Binds the canvas of one source to its fitted head.

    Args:
        model: the head model that the source was tracked with.
        motion: the tracked source, T = 1.
        canvas: the layers of its photo.
        source_residual: [478, 3] displacement of the source's landmarks from its fitted head, metres, head frame.
        landmark_weights: [P, 478], see `residual_weights`.
    """
    params, view = motion.params(model, 0), SourceView.of(motion)
    fitted = model.shaped(params.shape, params.expression)[0]
    patch = _fit_patch(model, fitted, view, source_residual, landmark_weights)
    screen = view.to_canvas(patch.fitted)
    sheet = _make_sheet(model, canvas, view, patch, screen)
    chosen, num_patch = patch.vertices, len(patch.vertices)
    renumber = torch.full((len(fitted),), -1, dtype=torch.long)
    renumber[chosen] = torch.arange(num_patch)
    patch_basis = model.expression_basis[chosen].reshape(num_patch * 3, -1)
    return Rig(
        rest=torch.cat([patch.fitted[chosen], sheet.rest]),
        uv=torch.cat([screen[chosen, :2], torch.from_numpy(sheet.points)]).float(),
        faces=torch.cat([renumber[patch.faces], torch.from_numpy(sheet.faces) + num_patch]),
        expression_basis=torch.cat([patch_basis, torch.from_numpy(sheet.expression_basis)]).float(),
        residual_basis=torch.from_numpy(patch.weights),
        head_weight=torch.cat([torch.ones(num_patch), torch.from_numpy(sheet.head_weight)]),
        light_weight=torch.from_numpy(np.clip(patch.from_rim / 0.025, 0, 1).astype(np.float32)),
        patch_vertices=chosen,
        source_expression=params.expression[0].float(),
        source_rotation=torch.as_tensor(motion.rotation[0], dtype=torch.float32),
        source_translation=view.translation,
        source_residual=source_residual.float(),
        focal_px=torch.tensor(view.focal_px),
    )


@dataclass(frozen=True)
class _Patch:
    """The face patch: `vertices` [P] and `faces` [F, 3] in the numbers of the head model's vertices.

    `fitted` [N, 3] are all vertices of the head model, metres, with the patch moved onto the source's landmarks;
    `weights` [P, 478] says how far each landmark moves each patch vertex, `from_rim` [P] how far that lies inside the
    patch, metres.
    """

    vertices: Tensor
    faces: Tensor
    fitted: Tensor
    weights: np.ndarray
    from_rim: np.ndarray


def _fit_patch(
    model: HeadModel, fitted: Tensor, view: SourceView, source_residual: Tensor, landmark_weights: np.ndarray
) -> _Patch:
    faces = patch_faces(model)
    vertices = torch.unique(faces)
    faces = _drop_grazing(fitted, faces, view)
    from_rim = _distance_inside(fitted, faces, vertices)
    weights = landmark_weights * np.clip(from_rim / 0.015, 0, 1)[:, None].astype(np.float32)
    fitted = fitted.clone()
    fitted[vertices] += torch.from_numpy(weights) @ source_residual
    return _Patch(vertices, faces, fitted, weights, from_rim)


@dataclass(frozen=True)
class _Sheet:
    """The sheet's `points` [V, 2] on the canvas; the rest is as in `Rig`, with faces in the numbers of the points."""

    points: np.ndarray
    rest: Tensor
    faces: np.ndarray
    head_weight: np.ndarray
    expression_basis: np.ndarray


def _make_sheet(model: HeadModel, canvas: Canvas, view: SourceView, patch: _Patch, screen: Tensor) -> _Sheet:
    """Builds the sheet around the patch; `screen` [N, 3] holds the head model's vertices on the canvas, with depth."""
    side = canvas.alpha.shape[0]
    grid = make_grid(side, side)
    skin = model.faces[model.regions["skin"][model.faces].all(1)]
    surface = _surface_under(grid.points, screen, skin, side)
    covered, under_patch = _under_patch(grid.points, screen, patch.faces, side)
    depth = _grid_depth(grid, surface, under_patch, screen[:, 2].numpy(), float(-view.translation[2]))
    chin = screen[patch.vertices, 1].max().item()
    face_height = chin - screen[patch.vertices, 1].min().item()
    return _Sheet(
        grid.points,
        view.from_canvas(torch.from_numpy(grid.points), torch.from_numpy(depth)),
        drop_covered(grid, covered, _near_visible(grid.points, canvas.alpha)),
        _grid_weight(grid, surface, under_patch, model, chin, face_height),
        _grid_expression(grid, surface, under_patch, model, face_height),
    )


def patch_faces(model: HeadModel) -> Tensor:
    """Triangles [F, 3] of the face that are textured with the photo, lips and lids included."""
    inside = (model.regions["face"] | model.regions["lips"] | model.regions["eyelids"]) & model.regions["skin"]
    return model.faces[inside[model.faces].all(1)]


def residual_weights(model: HeadModel, vertices: np.ndarray) -> np.ndarray:
    """Weights [V, 478]: how far a displacement of each landmark moves each of the chosen vertices.

    Interpolation with compactly supported radial functions (Wendland 1995, C2), so that a vertex at a landmark follows
    it. Distances are measured with mouth and eyes wide open, so that a lip or lid does not move the one it touches at
    rest.

    Args:
        model: the head model.
        vertices: [V] numbers of vertices of the head model.
    """
    opened = torch.zeros(1, model.num_expression)
    for name, amount in (("jawOpen", 1.0), ("eyeWideLeft", 1.0), ("eyeWideRight", 1.0)):
        if name in model.expression_names:
            opened[0, model.expression_names.index(name)] = amount
    rest = model.shaped(torch.zeros(1, model.num_shape), opened)
    landmarks = model.landmarks(rest)[0].double().numpy()
    valid = model.landmark_embedding(478).valid.clone()
    valid[NUM_MESH:] = False  # irises move with the eyeballs
    points = rest[0, vertices].double().numpy()

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        distance = np.linalg.norm(a[:, None] - b[None], axis=-1) / RESIDUAL_RADIUS
        return np.clip(1 - distance, 0, None) ** 4 * (4 * distance + 1)

    chosen = np.flatnonzero(valid.numpy())
    gram = kernel(landmarks[chosen], landmarks[chosen]) + 0.02 * np.eye(len(chosen))
    weights = np.zeros((len(vertices), 478), np.float32)
    weights[:, chosen] = kernel(points, landmarks[chosen]) @ np.linalg.inv(gram)
    return weights


@dataclass(frozen=True)
class _Surface:
    """What of the fitted skin, rasterised in the source's pose, lies under each grid point of the canvas.

    `hit` [V] says whether any does, `corners` [V, 3] are the vertices of its triangle, `barycentric` [V, 3] the
    coordinates in it.
    """

    hit: np.ndarray
    corners: np.ndarray
    barycentric: np.ndarray


def _surface_under(points: np.ndarray, screen: Tensor, faces: Tensor, side: int) -> _Surface:
    fragments = rasterize(screen, faces, height=side, width=side)
    column = np.clip(points[:, 0].astype(int), 0, side - 1)
    row = np.clip(points[:, 1].astype(int), 0, side - 1)
    face_id = fragments.face_id.numpy()[row, column]
    hit = face_id >= 0
    corners = faces.numpy()[np.where(hit, face_id, 0)]
    return _Surface(hit, corners, fragments.barycentric.numpy()[row, column])


def _rooted_weight(points: np.ndarray, chin_y: float, face_height: float) -> np.ndarray:
    """Share of the head's motion [V] of grid points off the head model, by height, as measured on clips."""
    below = (points[:, 1] - chin_y) / face_height
    return np.interp(below, (-0.8, -0.55, -0.2, 0.0, 0.3), (1.0, 0.85, 0.35, 0.1, 0.0))


def _drop_grazing(vertices: Tensor, faces: Tensor, view: SourceView) -> Tensor:
    """Removes the patch's triangles near its rim that the photo shows edge-on.

    Their few pixels would smear over the cheek when the head turns; the smoother sheet is drawn there instead.
    """
    normal = vertex_normals(vertices[None], faces)[0] @ view.rotation.T
    rim = torch.from_numpy(_distance_inside(vertices, faces, torch.arange(len(vertices))))
    keep = ~((normal[:, 2] < GRAZING) & (rim < 0.03))
    return faces[keep[faces].all(1)]


def _distance_inside(vertices: Tensor, faces: Tensor, chosen: Tensor) -> np.ndarray:
    """Distance [len(chosen)] in metres of patch vertices from the patch's outer rim.

    Lid and lip openings are not part of the rim.
    """
    edges = torch.sort(torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), -1).values
    unique, counts = torch.unique(edges, dim=0, return_counts=True)
    open_edges = unique[counts == 1].numpy()
    loops = _connected(open_edges)
    extent = [np.ptp(vertices[loop].numpy(), axis=0).max() for loop in loops]
    rim = vertices[loops[int(np.argmax(extent))]]
    return torch.cdist(vertices[chosen], rim).min(1).values.numpy()


def _connected(edges: np.ndarray) -> list[np.ndarray]:
    """Vertex numbers of each connected set of edges."""
    vertices, flat = np.unique(edges, return_inverse=True)
    flat = flat.reshape(edges.shape)
    links = scipy.sparse.coo_matrix((np.ones(len(flat)), (flat[:, 0], flat[:, 1])), shape=(len(vertices),) * 2)
    count, label = connected_components(links, directed=False)
    return [vertices[label == k] for k in range(count)]


def _under_patch(points: np.ndarray, screen: Tensor, faces: Tensor, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Masks [V] of grid points far enough inside the face patch to be hidden by it, and of all points under it.

    Eye and mouth openings count as part of the patch.
    """
    mask = (rasterize(screen, faces, height=side, width=side).face_id.numpy() >= 0).astype(np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = cv2.drawContours(np.zeros_like(mask), contours, -1, 1, cv2.FILLED)
    inside = cv2.erode(filled, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (21, 21)))
    column, row = (np.clip(points[:, axis].astype(int), 0, side - 1) for axis in (0, 1))
    return inside[row, column] > 0, filled[row, column] > 0


def _near_visible(points: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Mask [V] of grid points with some opacity within 9 pixels."""
    near = cv2.dilate((alpha > 0.004).astype(np.uint8), np.ones((19, 19), np.uint8))
    side = alpha.shape[0]
    return near[np.clip(points[:, 1].astype(int), 0, side - 1), np.clip(points[:, 0].astype(int), 0, side - 1)] > 0


def _grid_depth(
    grid: Grid, surface: _Surface, under_patch: np.ndarray, vertex_depth: np.ndarray, pivot_depth: float
) -> np.ndarray:
    """Depth [V] of grid points in metres: that of the head, not behind the neck joint, continued smoothly around it.

    Steps in depth beside the face (jaw to neck, ear to hair) are smoothed: a steep sheet would smear when it turns.
    """
    known = (vertex_depth[surface.corners] * surface.barycentric).sum(-1)
    known = np.minimum(known, pivot_depth + 0.01) + 0.001  # a millimetre behind the face patch
    border = (grid.points[:, 1] >= grid.points[:, 1].max()) & ~surface.hit
    values = np.where(surface.hit, known, pivot_depth - 0.02).astype(np.float32)
    depth = extend(grid, values, surface.hit | border)
    return extend(grid, depth, under_patch, screening=0.05, target=depth)


def _grid_weight(
    grid: Grid, surface: _Surface, under_patch: np.ndarray, model: HeadModel, chin_y: float, face_height: float
) -> np.ndarray:
    """Share of the head's motion [V] that each grid point follows, in [0, 1]."""
    share = {"root": 0.0, "neck": 0.3}
    belongs = np.array([share.get(name, 1.0) for name in model.joint_names], np.float32)
    vertex_weight = model.skinning_weights.numpy() @ belongs
    known = (vertex_weight[surface.corners] * surface.barycentric).sum(-1)
    target = np.where(surface.hit, known, _rooted_weight(grid.points, chin_y, face_height))
    x, y = grid.points.T
    still = (y >= y.max()) | (((x <= 0) | (x >= x.max())) & (y > chin_y))
    values = np.where(under_patch, 1.0, 0.0).astype(np.float32)
    screening = np.where(surface.hit, 0.2, 0.1)
    return np.clip(extend(grid, values, under_patch | still, screening=screening, target=target), 0, 1)


def _grid_expression(
    grid: Grid, surface: _Surface, under_patch: np.ndarray, model: HeadModel, face_height: float
) -> np.ndarray:
    """Expression basis [V * 3, E] of the grid points: that of the face under them, fading out around the face."""
    basis = model.expression_basis.numpy()
    num_expression = basis.shape[-1]
    under = under_patch & surface.hit
    values = np.zeros((len(grid.points), 3 * num_expression), np.float32)
    moved = np.einsum("vc,vcik->vik", surface.barycentric[under], basis[surface.corners[under]])
    values[under] = moved.reshape(under.sum(), -1)
    reach = 0.12 * face_height / (grid.points[1, 0] - grid.points[0, 0])
    mask = under_patch.reshape(grid.rows, grid.columns).astype(np.uint8)
    near = cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (int(8 * reach) | 1,) * 2)).ravel() > 0
    rim = under & (cv2.erode(mask, np.ones((3, 3), np.uint8)).ravel() == 0)
    moving = np.abs(values[rim]).max(0) > 1e-4  # most expressions do not reach the outline
    fixed = under | (under_patch & ~surface.hit) | ~near
    values[:, moving] = extend(grid, values[:, moving], fixed, screening=1 / reach**2)
    return values.reshape(-1, num_expression)
