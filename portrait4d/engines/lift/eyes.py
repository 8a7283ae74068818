"""The eyes: what shows through the lid openings.

The photo's own eye, completed under the lids (`eyeballs`), is the texture of a part of a sphere that turns with the
gaze. The upper lid throws a soft shadow on it, which the photo shows where its lid is, and which moves with the edge.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from flame.geometry.rotation import axis_angle_to_matrix
from flame.landmarks.groups import LEFT_EYE, LEFT_IRIS, RIGHT_EYE, RIGHT_IRIS
from portrait4d.engines.lift.tensor_fields import TensorFields
from portrait4d.engines.lift.view import SourceView

LIDS = {"left": LEFT_EYE, "right": RIGHT_EYE}
"""Landmarks of the lid edge, in order around the opening."""

IRIS = {"left": LEFT_IRIS, "right": RIGHT_IRIS}
"""Landmarks of the iris: centre and four points of the rim."""

SHADOW, SHADOW_DEPTH = 0.3, 0.0022
"""Share of the light that the upper lid takes at its edge, and metres below it within which that falls to 1/e."""

LID_MARGIN, LEAST_ROOM = 0.12, 0.0006
"""Share of the opening that the iris's centre stays away from the lids; metres that it may move in any eye."""

_ROWS, _COLUMNS = 25, 21


@dataclass(frozen=True)
class Eye(TensorFields):
    """One eye of a source.

    Attributes:
        rest: [V, 3] metres in the head frame.
        from_centre: [V, 3] the matching points of the eyeball, relative to its centre, metres.
        follow: [V] how far a point turns with the eyeball, in [0, 1].
        uv: [V, 2] canvas pixels.
        faces: [F, 3].
        source_gaze: [3] the eyeball's rotation in the source, axis-angle in radians.
        iris_height: [] y of the iris's centre in the source, head frame, metres.
        below_lid: [V, U] weights that make of the upper lid's edge, U points, the points above those of the eye.
        picture: [h, w, 4] the eye without what lids and lashes do to it in the photo, for lids that open wider.
        picture_at: [2] canvas pixel of its top-left corner, x and y.
    """

    rest: Tensor
    from_centre: Tensor
    follow: Tensor
    uv: Tensor
    faces: Tensor
    source_gaze: Tensor
    iris_height: Tensor
    below_lid: Tensor
    picture: Tensor
    picture_at: Tensor

    def turned(self, gaze: Tensor) -> Tensor:
        """Head-frame points [B, V, 3] in metres for eyeball rotations [B, 3], axis-angle."""
        turn = axis_angle_to_matrix(gaze) @ axis_angle_to_matrix(self.source_gaze).T
        moved = self.from_centre @ turn.mT - self.from_centre
        return self.rest + self.follow[:, None] * moved

    def within_lids(self, gaze: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
        """Limits eyeball rotations [B, 3] so that the iris does not leave the eye; the source's own stays.

        Args:
            gaze: axis-angle; its first number is the angle down.
            lowest: [B] y in metres, head frame, of the lower lid.
            highest: [B] likewise of the upper lid.
        """
        radius = self.from_centre.norm(dim=-1).amax().clamp(min=1e-4)
        own = torch.sin(self.source_gaze[0])
        raised = radius * (own - torch.sin(gaze[:, 0]))
        margin = LID_MARGIN * (highest - lowest)
        room = torch.where(raised > 0, highest - margin - self.iris_height, self.iris_height - lowest - margin)
        room = room.clamp(min=LEAST_ROOM)
        free = 0.5 * room
        beyond = (raised.abs() - free).clamp(min=0)
        limited = raised.sign() * (
            raised.abs().minimum(free) + (room - free) * (1 - torch.exp(-beyond / (room - free)))
        )
        pitch = torch.asin((own - limited / radius).clamp(-0.9, 0.9))
        return torch.cat([torch.where(beyond > 0, pitch, gaze[:, 0])[:, None], gaze[:, 1:]], 1)

    def shadow(self, points: Tensor, edge: Tensor) -> Tensor:
        """Brightness [B, V] at points [B, V, 3] of the eye under an upper lid with the edge [B, U, 3], head frame."""
        if not self.below_lid.shape[1]:
            return torch.ones_like(points[..., 0])
        below = (self.below_lid @ edge)[..., 1] - points[..., 1]
        return 1 - SHADOW * torch.exp(-below.clamp(min=0) / SHADOW_DEPTH)


def plain_eye(points: int) -> dict[str, Tensor]:
    """What an eye of `points` points lacks in a file of version 1: no shadow, one picture, the iris free."""
    return {
        "iris_height": torch.tensor(0.0),
        "below_lid": torch.zeros(points, 0),
        "picture": torch.zeros(1, 1, 4),
        "picture_at": torch.zeros(2),
    }


def polygon_mask(points: np.ndarray, side: int, grow: float = 0.0) -> np.ndarray:
    """Coverage float32 [side, side] in [0, 1] of a polygon [N, 2] in pixels, enlarged by `grow` pixels (or shrunk)."""
    scale = 8
    mask = np.zeros((side, side), np.uint8)
    cv2.fillPoly(mask, [np.round((points - 0.5) * scale).astype(np.int32)], 255, cv2.LINE_AA, 3)
    if grow:
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * int(round(abs(grow))) + 1,) * 2)
        mask = (cv2.dilate if grow > 0 else cv2.erode)(mask, kernel)
    return mask.astype(np.float32) / 255


def build_eye(
    lids: np.ndarray, iris: np.ndarray, centre: Tensor, radius: float, gaze: Tensor, edge: Tensor, view: SourceView
) -> Eye:
    """Builds the geometry of one eye.

    Args:
        lids: [16, 2] canvas pixels.
        iris: [2] its centre, canvas pixels.
        centre: [3] the eyeball's centre in the head frame, metres.
        radius: that of the head model's eyeball, metres; the tracker measures gaze with it.
        gaze: [3] the eyeball's rotation in the source, axis-angle.
        edge: [U, 3] the upper lid's edge in the source, head frame, from corner to corner.
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
    iris_at = view.from_canvas(torch.from_numpy(iris[None]).float(), -(camera_centre[2] + 0.8 * radius))
    about = {"iris_height": iris_at[0, 1], "below_lid": interpolation(rest[:, 0], edge[:, 0])}
    return Eye(rest, from_centre, follow, uv, faces, gaze.float(), **{**plain_eye(len(rest)), **about})


def flat_patch(low: np.ndarray, high: np.ndarray, *, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """A rectangular grid of canvas points [V, 2] between two corners [2], and its triangles [F, 3]."""
    grid = np.stack(np.meshgrid(np.linspace(low[0], high[0], columns), np.linspace(low[1], high[1], rows)), -1)
    return torch.from_numpy(grid.reshape(-1, 2).astype(np.float32)), torch.from_numpy(grid_faces(rows, columns))


def grid_faces(rows: int, columns: int) -> np.ndarray:
    """Triangles [F, 3] of a grid of points, row by row from above; counter-clockwise seen with y up."""
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = (part.ravel() for part in (index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]))
    return np.concatenate([np.stack([a, c, b], -1), np.stack([b, c, d], -1)])


def interpolation(x: Tensor, knots: Tensor) -> Tensor:
    """Weights [N, K] of linear interpolation at `x` [N] between ascending `knots` [K], constant beyond their ends."""
    x = x.clamp(float(knots[0]), float(knots[-1]))
    right = torch.searchsorted(knots.contiguous(), x.contiguous()).clamp(1, len(knots) - 1)
    share = (x - knots[right - 1]) / (knots[right] - knots[right - 1]).clamp(min=1e-6)
    weights = x.new_zeros(len(x), len(knots))
    rows = torch.arange(len(x))
    weights[rows, right - 1] = 1 - share
    weights[rows, right] += share
    return weights
