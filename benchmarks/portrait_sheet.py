"""Pictures of fits: the crop with reference, tracked and fitted points, and with the fitted mesh drawn over it."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flame.geometry.camera import Camera
from flame.heads.head_model import HeadModel
from flame.mesh.raster import rasterize
from preprocess.fitting.batched.fit import BatchFit

_SCALE = 2
TRACKED, FITTED, REFERENCE = (0, 220, 0), (255, 30, 30), (40, 90, 255)
"""Colours: green, red, blue."""


@dataclass(frozen=True)
class Projected:
    """A fitted head model in B crops.

    Attributes:
        vertices: `[B, V, 3]` x and y in crop px, distance from the camera in metres.
        landmarks: `[B, 478, 2]` crop px; NaN where the model has none.
        faces: `[F, 3]`.
    """

    vertices: Tensor
    landmarks: Tensor
    faces: Tensor


def project_fit(fit: BatchFit, model: HeadModel, *, size: int) -> Projected:
    """The whole mesh, through the camera label of the fit (not through the fit's own tables: this checks them)."""
    camera = Camera.from_head_pose(fit.pose.rotation, fit.pose.translation, fov_degrees=fit.fov_degrees)
    mesh = model(fit.head)
    pixels, distance = camera.project(mesh, height=size, width=size)
    landmarks, _ = camera.project(model.landmarks(mesh), height=size, width=size)
    landmarks[:, ~model.landmark_embedding(478).valid] = torch.nan
    return Projected(torch.cat([pixels, distance[..., None]], -1), landmarks, model.faces)


def draw_points(image: NDArray[np.uint8], sets: list[tuple[NDArray, tuple[int, int, int], int]]) -> NDArray[np.uint8]:
    """The picture, twice as large, with sets of (points `[L, 2]` px, colour, radius)."""
    canvas = cv2.resize(image, None, fx=_SCALE, fy=_SCALE, interpolation=cv2.INTER_CUBIC)
    for points, colour, radius in sets:
        for x, y in points[np.isfinite(points).all(-1)] * _SCALE:
            cv2.circle(canvas, (round(float(x)), round(float(y))), radius, colour, -1, cv2.LINE_AA)
    return canvas.astype(np.uint8)


def draw_mesh(image: NDArray[np.uint8], vertices: Tensor, faces: Tensor) -> NDArray[np.uint8]:
    """The picture, twice as large, half covered by a mesh `[V, 3]` (px, distance) that is lit from the camera."""
    canvas = cv2.resize(image, None, fx=_SCALE, fy=_SCALE, interpolation=cv2.INTER_CUBIC).astype(np.float32)
    height, width = canvas.shape[:2]
    points = vertices * vertices.new_tensor([_SCALE, _SCALE, 1.0])
    hit = rasterize(points, faces, height=height, width=width).face_id.numpy()
    # lit by how far a triangle faces the camera, lengths in px
    metre_px = 0.5 * height / np.tan(np.radians(6.0)) / float(vertices[:, 2].mean())
    corners = (points * points.new_tensor([1.0, 1.0, metre_px]))[faces]
    normal = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    light = (normal[:, 2].abs() / normal.norm(dim=-1).clamp_min(1e-9)).numpy()
    covered = hit >= 0
    canvas[covered] = 0.45 * canvas[covered] + 0.55 * (255 * light[hit[covered]])[:, None] * np.array([1.0, 0.85, 0.7])
    return canvas.clip(0, 255).astype(np.uint8)
