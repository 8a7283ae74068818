"""The eyes: what shows through the lid openings.

The photo's own eye, completed under the lids, is the texture of a part of a sphere that turns with the gaze.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import cv2
import numpy as np
import torch
from torch import Tensor

from flame.geometry.rotation import axis_angle_to_matrix
from flame.landmarks.groups import LEFT_EYE, LEFT_IRIS, RIGHT_EYE, RIGHT_IRIS
from portrait4d.engines.lift.canvas import fill
from portrait4d.engines.lift.view import SourceView

LIDS = {"left": LEFT_EYE, "right": RIGHT_EYE}
"""Landmarks of the lid edge, in order around the opening."""

IRIS = {"left": LEFT_IRIS, "right": RIGHT_IRIS}
"""Landmarks of the iris: centre and four points of the rim."""

_ROWS, _COLUMNS = 9, 13


@dataclass(frozen=True)
class Eye:
    """One eye of a source.

    Attributes:
        rest: [V, 3] metres in the head frame.
        from_centre: [V, 3] the matching points of the eyeball, relative to its centre, metres.
        follow: [V] how far a point turns with the eyeball, in [0, 1].
        uv: [V, 2] canvas pixels.
        faces: [F, 3].
        source_gaze: [3] the eyeball's rotation in the source, axis-angle in radians.
    """

    rest: Tensor
    from_centre: Tensor
    follow: Tensor
    uv: Tensor
    faces: Tensor
    source_gaze: Tensor

    def to(self, device: torch.device | str) -> Eye:
        """The same eye on another device."""
        return replace(self, **{field.name: getattr(self, field.name).to(device) for field in fields(self)})

    def turned(self, gaze: Tensor) -> Tensor:
        """Head-frame points [B, V, 3] in metres for eyeball rotations [B, 3], axis-angle."""
        turn = axis_angle_to_matrix(gaze) @ axis_angle_to_matrix(self.source_gaze).T
        moved = self.from_centre @ turn.mT - self.from_centre
        return self.rest + self.follow[:, None] * moved


def polygon_mask(points: np.ndarray, side: int, grow: float = 0.0) -> np.ndarray:
    """Coverage float32 [side, side] in [0, 1] of a polygon [N, 2] in pixels, enlarged by `grow` pixels (or shrunk)."""
    scale = 8
    mask = np.zeros((side, side), np.uint8)
    cv2.fillPoly(mask, [np.round((points - 0.5) * scale).astype(np.int32)], 255, cv2.LINE_AA, 3)
    if grow:
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * int(round(abs(grow))) + 1,) * 2)
        mask = (cv2.dilate if grow > 0 else cv2.erode)(mask, kernel)
    return mask.astype(np.float32) / 255


def complete_eye(photo: np.ndarray, lids: np.ndarray, iris: np.ndarray) -> np.ndarray:
    """Completes an eye under its lids: the photo inside the opening, white and iris continued outside it.

    Args:
        photo: float32 [H, W, 3] in [0, 1].
        lids: [16, 2] lid edge in canvas pixels.
        iris: [5, 2] centre and rim in canvas pixels.

    Returns:
        Picture float32 [H, W, 3], to be used only around the eye.
    """
    side = photo.shape[0]
    centre = iris[0]
    radius = float(np.linalg.norm(iris[1:] - centre, axis=-1).mean())
    y, x = np.mgrid[:side, :side].astype(np.float32) + 0.5
    distance = np.hypot(x - centre[0], y - centre[1])
    inside = polygon_mask(lids, side, grow=-2)
    white_known = (inside > 0.5) & (distance > 1.15 * radius)
    if white_known.sum() < 6:
        white_known = (polygon_mask(lids, side) > 0.5) & (distance > radius)
    white = fill(photo, _brighter_half(photo, white_known)) if white_known.any() else np.full_like(photo, 0.75)
    outside = np.clip(cv2.distanceTransform((inside < 0.5).astype(np.uint8), cv2.DIST_L2, 5) / (2 * radius), 0, 1)
    white = white * (1 - 0.25 * outside[..., None])

    iris_texture = _complete_iris(photo, inside > 0.5, centre, radius, distance)
    soft = np.clip((1.06 * radius - distance) / max(0.12 * radius, 1.0) + 0.5, 0, 1)[..., None]
    completed = white * (1 - soft) + iris_texture * soft
    seen = cv2.GaussianBlur(polygon_mask(lids, side, grow=1), (0, 0), 0.6)
    seen = np.maximum(seen, polygon_mask(lids, side, grow=1))[..., None]
    return (photo * seen + completed * (1 - seen)).astype(np.float32)


def _brighter_half(photo: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The brighter half of known pixels: lashes and their shadows are no white of an eye, which may open wider."""
    light = photo.mean(-1)
    return known & (light >= np.median(light[known]))


def _complete_iris(
    photo: np.ndarray, inside: np.ndarray, centre: np.ndarray, radius: float, distance: np.ndarray
) -> np.ndarray:
    """Fills the hidden pixels of the iris from the visible ones.

    A hidden pixel becomes the mean of its ring's median and its mirror image, top to bottom, or, where that is hidden
    too, the median alone.
    """
    side = photo.shape[0]
    disc = distance < 1.3 * radius
    visible = inside & disc
    rings = np.minimum((distance / radius * 12).astype(int), 15)
    colours = np.zeros((16, 3), np.float32)
    for ring in range(16):
        chosen = visible & (rings == ring)
        colours[ring] = np.median(photo[chosen], axis=0) if chosen.sum() > 2 else np.nan
    known = ~np.isnan(colours[:, 0])
    if not known.any():
        return np.full_like(photo, 0.2)
    for channel in range(3):
        colours[:, channel] = np.interp(np.arange(16), np.flatnonzero(known), colours[known, channel])
    texture = colours[rings]
    rows, columns = np.nonzero(disc & ~visible)
    mirrored = np.clip(np.round(2 * centre[1] - rows - 1).astype(int), 0, side - 1)
    from_mirror = visible[mirrored, columns]
    texture[rows[from_mirror], columns[from_mirror]] = 0.5 * (
        texture[rows[from_mirror], columns[from_mirror]] + photo[mirrored[from_mirror], columns[from_mirror]]
    )
    texture[visible] = photo[visible]
    return texture


def build_eye(lids: np.ndarray, centre: Tensor, radius: float, gaze: Tensor, view: SourceView) -> Eye:
    """Builds the geometry of one eye.

    Args:
        lids: [16, 2] canvas pixels.
        centre: [3] the eyeball's centre in the head frame, metres.
        radius: that of the head model's eyeball, metres; the tracker measures gaze with it.
        gaze: [3] the eyeball's rotation in the source, axis-angle.
        view: the camera of the source.
    """
    low, high = lids.min(0), lids.max(0)
    width = high[0] - low[0]
    low, high = low - [0.25 * width, 0.45 * width], high + [0.25 * width, 0.45 * width]
    uv, faces = flat_patch(low, high, rows=_ROWS, columns=_COLUMNS)
    camera_centre = view.to_camera(centre[None])[0]
    rest = view.from_canvas(uv, -(camera_centre[2] + 0.8 * radius))
    flat = view.to_camera(rest) - camera_centre
    across = flat[:, :2].norm(dim=-1)
    shrink = (0.9 * radius / across.clamp(min=1e-6)).clamp(max=1)
    plane = flat[:, :2] * shrink[:, None]
    forward = (radius**2 - plane.square().sum(-1)).clamp(min=0).sqrt()
    from_centre = torch.cat([plane, forward[:, None]], -1) @ view.rotation
    follow = ((1.3 - across / radius) / 0.5).clamp(0, 1)
    return Eye(rest, from_centre, follow, uv, faces, gaze.float())


def flat_patch(low: np.ndarray, high: np.ndarray, *, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """A rectangular grid of canvas points [V, 2] between two corners [2], and its triangles [F, 3]."""
    grid = np.stack(np.meshgrid(np.linspace(low[0], high[0], columns), np.linspace(low[1], high[1], rows)), -1)
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = (part.ravel() for part in (index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]))
    faces = np.concatenate([np.stack([a, c, b], -1), np.stack([b, c, d], -1)])
    return torch.from_numpy(grid.reshape(-1, 2).astype(np.float32)), torch.from_numpy(faces)
