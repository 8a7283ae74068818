"""Binding one source's canvas to its fitted head.

The face patch follows the head model's triangles, the sheet its own grid, and both agree where they overlap.
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
"""Cosine to the view below which skin at the side of the face is left to the sheet."""

RESIDUAL_RADIUS = 0.022
"""Reach of one landmark's displacement, in metres on the face with mouth and eyes open."""


def build_rig(
    model: HeadModel, motion: Motion, canvas: Canvas, source_residual: Tensor, landmark_weights: np.ndarray
) -> Rig:
    """Binds the canvas of one source to its fitted head.

    Args:
        model: the head model the source was tracked with.
        motion: the tracked source, T = 1.
        canvas: its layers.
        source_residual: [478, 3] landmark displacement of the source beyond its fitted head.
        landmark_weights: [P, 478], see `residual_weights`.
    """
    params, view = motion.params(model, 0), SourceView.of(motion)
    side = canvas.alpha.shape[0]

    fitted = model.shaped(params.shape, params.expression)[0]
    faces = patch_faces(model)
    patch_vertices = torch.unique(faces)
    renumber = torch.full((len(fitted),), -1, dtype=torch.long)
    renumber[patch_vertices] = torch.arange(len(patch_vertices))
    faces = _drop_grazing(fitted, faces, view)
    boundary = _distance_inside(fitted, faces, patch_vertices)
    weights = landmark_weights * np.clip(boundary / 0.015, 0, 1)[:, None].astype(np.float32)
    fitted = fitted.clone()
    fitted[patch_vertices] += torch.from_numpy(weights) @ source_residual

    screen = view.to_canvas(fitted)
    grid = make_grid(side, side)
    skin = model.faces[model.regions["skin"][model.faces].all(1)]
    surface = _surface_under(grid.points, screen, skin, side)
    covered, under_patch = _under_patch(grid.points, screen, faces, side)
    visible = _near_visible(grid.points, canvas.alpha)

    depth = _grid_depth(grid, surface, under_patch, screen[:, 2].numpy(), float(-view.translation[2]))
    chin = screen[patch_vertices, 1].max().item()
    face_height = chin - screen[patch_vertices, 1].min().item()
    head_weight = _grid_weight(grid, surface, under_patch, model, chin, face_height)
    basis = _grid_expression(grid, surface, under_patch, model, face_height)

    sheet_rest = view.from_canvas(torch.from_numpy(grid.points), torch.from_numpy(depth))
    sheet_faces = torch.from_numpy(drop_covered(grid, covered, visible)) + len(patch_vertices)

    patch_basis = model.expression_basis[patch_vertices].reshape(len(patch_vertices) * 3, -1)
    return Rig(
        rest=torch.cat([fitted[patch_vertices], sheet_rest]),
        uv=torch.cat([screen[patch_vertices, :2], torch.from_numpy(grid.points)]).float(),
        faces=torch.cat([renumber[faces], sheet_faces]),
        expression_basis=torch.cat([patch_basis, torch.from_numpy(basis)]).float(),
        residual_basis=torch.from_numpy(weights),
        head_weight=torch.cat([torch.ones(len(patch_vertices)), torch.from_numpy(head_weight)]),
        light_weight=torch.from_numpy(np.clip(boundary / 0.025, 0, 1).astype(np.float32)),
        patch_vertices=patch_vertices,
        source_expression=params.expression[0].float(),
        source_rotation=torch.as_tensor(motion.rotation[0], dtype=torch.float32),
        source_translation=view.translation,
        source_residual=source_residual.float(),
        focal_px=torch.tensor(view.focal_px),
    )


def patch_faces(model: HeadModel) -> Tensor:
    """Triangles of the face region whose texture is the photo, lips and lids included, [F, 3]."""
    inside = model.regions["face"] | model.regions["lips"] | model.regions["eyelids"]
    inside = inside & model.regions["skin"]
    return model.faces[inside[model.faces].all(1)]


def residual_weights(model: HeadModel, vertices: np.ndarray) -> np.ndarray:
    """How far each of the 478 landmarks moves each vertex, [V, 478].

    Interpolation with compactly supported radial functions (Wendland 1995, C2), so that a vertex at a landmark follows
    it. Distances are measured with mouth and eyes wide open: upper and lower lip, upper and lower lid stay apart
    although they touch at rest.
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
    """The fitted skin drawn at the source pose over the canvas.

    Per grid point: whether it was hit, the triangle's vertices and the barycentric coordinates.
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
    """How much a grid point outside the head model belongs to the head, by its height alone.

    1 at the height of the face, 0 at the chest.
    """
    below = (points[:, 1] - chin_y) / face_height
    return 1 - np.clip(below / 0.5, 0, 1)


def _drop_grazing(vertices: Tensor, faces: Tensor, view: SourceView) -> Tensor:
    """Patch faces without those near the rim that the photo sees edge-on.

    Their few pixels would smear over the cheek when the head turns; the smoother sheet shows that place instead.
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
    """Grid points deep enough under the face patch to be hidden by it, and all points under it.

    Eye and mouth openings count as inside.
    """
    mask = (rasterize(screen, faces, height=side, width=side).face_id.numpy() >= 0).astype(np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = cv2.drawContours(np.zeros_like(mask), contours, -1, 1, cv2.FILLED)
    inside = cv2.erode(filled, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (21, 21)))
    column = np.clip(points[:, 0].astype(int), 0, side - 1)
    row = np.clip(points[:, 1].astype(int), 0, side - 1)
    return inside[row, column] > 0, filled[row, column] > 0


def _near_visible(points: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    near = cv2.dilate((alpha > 0.004).astype(np.uint8), np.ones((19, 19), np.uint8))
    side = alpha.shape[0]
    return near[np.clip(points[:, 1].astype(int), 0, side - 1), np.clip(points[:, 0].astype(int), 0, side - 1)] > 0


def _grid_depth(
    grid: Grid, surface: _Surface, under_patch: np.ndarray, vertex_depth: np.ndarray, pivot_depth: float
) -> np.ndarray:
    """Depth [V] in metres: that of the head, continued smoothly around it, no further back than the neck joint.

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
    """Share of the head's motion [V] that a grid point takes part in."""
    share = {"root": 0.0, "neck": 0.5}
    belongs = np.array([share.get(name, 1.0) for name in model.joint_names], np.float32)
    vertex_weight = model.skinning_weights.numpy() @ belongs
    known = (vertex_weight[surface.corners] * surface.barycentric).sum(-1)
    target = np.where(surface.hit, known, _rooted_weight(grid.points, chin_y, face_height))
    x, y = grid.points.T
    still = (y >= y.max()) | (((x <= 0) | (x >= x.max())) & (y > chin_y))
    values = np.where(under_patch, 1.0, 0.0).astype(np.float32)
    screening = np.where(surface.hit, 0.05, 0.02)
    return np.clip(extend(grid, values, under_patch | still, screening=screening, target=target), 0, 1)


def _grid_expression(
    grid: Grid, surface: _Surface, under_patch: np.ndarray, model: HeadModel, face_height: float
) -> np.ndarray:
    """How expressions move each grid point, [V * 3, E]: as the face under it, fading around the face."""
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
