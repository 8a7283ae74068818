"""The mouth: what shows through the lip opening.

As long as the lips are about as far apart as in the photo, the photo itself shows there. Else teeth, tongue and cavity
are drawn in the light that falls through the opening (`mouth_interior`, `mouth_light`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import torch
from torch import Tensor

from flame.heads.head_model import HeadModel
from portrait4d.engines.lift.canvas import fill
from portrait4d.engines.lift.eyes import flat_patch, polygon_mask
from portrait4d.engines.lift.tensor_fields import TensorFields
from portrait4d.engines.lift.view import SourceView

CAVITY, TONGUE, LOWER_TEETH, UPPER_TEETH = range(4)
"""Layers of the interior, from back to front."""


@dataclass(frozen=True)
class Interior(TensorFields):
    """The inside of the mouth: cavity, tongue, teeth.

    Attributes:
        rest: [V, 3] at zero expression, metres in the head frame.
        expression_basis: [V * 3, E].
        uv: [V, 2] atlas pixels.
        occlusion: [V] brightness factor that falls with depth.
        faces: [F, 3].
        atlas: [H, W, 4] premultiplied texture in [0, 1].
        layer: int64 [F] from `CAVITY` to `UPPER_TEETH`; all 0 in the files of an earlier version.
    """

    rest: Tensor
    expression_basis: Tensor
    uv: Tensor
    occlusion: Tensor
    faces: Tensor
    atlas: Tensor
    layer: Tensor

    @cached_property
    def faces_by_layer(self) -> list[Tensor]:
        """Triangles [F, 3] of each layer, from back to front."""
        return [self.faces[self.layer == number] for number in (CAVITY, TONGUE, LOWER_TEETH, UPPER_TEETH)]

    def deform(self, expression: Tensor) -> Tensor:
        """Head-frame points [B, V, 3] for expressions [B, E]."""
        return self.rest + (expression @ self.expression_basis.T).reshape(len(expression), -1, 3)


@dataclass(frozen=True)
class OwnMouth(TensorFields):
    """The part of the mouth's inside that the photo shows.

    Attributes:
        rest: [V, 3] metres in the head frame.
        uv: [V, 2] canvas pixels.
        faces: [F, 3].
        with_jaw: [V] how far a point follows the lower lip, in [0, 1].
        opening: [] the source's lip gap in metres.
        shows_teeth: bool [], whether teeth are drawn from `LiftAvatar.changed`: only in an earlier version's files.
        opening_faces: int64 [N, 3] triangles of patch points that fill the lip opening; none in such files.
        lip_faces: int64 [N, 3] triangles of patch points around the opening; none in such files.
    """

    rest: Tensor
    uv: Tensor
    faces: Tensor
    with_jaw: Tensor
    opening: Tensor
    shows_teeth: Tensor
    opening_faces: Tensor
    lip_faces: Tensor


def build_own_mouth(
    model: HeadModel, inner_lips: np.ndarray, depth: float, view: SourceView, patch_vertices: Tensor, faces: Tensor
) -> OwnMouth:
    """Builds the geometry of the inside that the photo shows: a flat patch at the lips' depth.

    Args:
        model: the head model.
        inner_lips: [20, 2] canvas pixels.
        depth: metres from the camera along its axis.
        view: the camera of the source.
        patch_vertices: [P] numbers of the patch points in the head model.
        faces: [F, 3] of the patch, in patch numbers.
    """
    uv, grid = flat_patch(inner_lips.min(0) - 4, inner_lips.max(0) + 4, rows=9, columns=17)
    opening = torch.tensor(float(np.ptp(inner_lips[:, 1])) * depth / view.focal_px)
    return OwnMouth(
        view.from_canvas(uv, depth),
        uv,
        grid,
        torch.zeros(len(uv)),
        opening,
        torch.tensor(False),
        fill_opening(model, patch_vertices),
        faces[model.regions["lips"][patch_vertices][faces].any(1)],
    )


def fill_opening(model: HeadModel, patch_vertices: Tensor) -> Tensor:
    """Triangles [N, 3] of patch points that fill the lip opening: a band between the upper and the lower edge."""
    loop = model.loops["lip_inner_loop"]
    number = torch.searchsorted(patch_vertices, loop)
    loop = number.roll(-int(model.template[loop, 0].argmin()))
    count = len(loop)
    first, second = torch.arange(count // 2), count - torch.arange(count // 2)
    a, b, c, d = loop[first], loop[first + 1], loop[second % count], loop[second - 1]
    return torch.cat([torch.stack([a, b, c], -1), torch.stack([b, d, c], -1)])


def own_mouth_texture(photo: np.ndarray, inner_lips: np.ndarray) -> np.ndarray:
    """The photo inside the lip opening, premultiplied float32 [H, W, 4].

    It is opaque up to two pixels beyond the opening, then fades out under the lips.
    """
    side = photo.shape[0]
    solid = polygon_mask(inner_lips, side, grow=2)
    alpha = np.maximum(solid, cv2.GaussianBlur(solid, (0, 0), 1.0))[..., None]
    return np.concatenate([photo * alpha, alpha], -1).astype(np.float32)


_SEAM_SHADE = np.array([0.55, 0.68, 0.68], np.float32)
"""Share of red, green and blue that is lost where lips meet."""


def closed_lips_texture(photo: np.ndarray, inner_lips: np.ndarray, outer_lips: np.ndarray) -> np.ndarray:
    """Lips without what lies between them, premultiplied float32 [H, W, 4], for an open mouth that closes.

    The mesh's lips never end exactly where the photo's do: without this, a line of teeth would stay between shut lips.

    Args:
        photo: float32 [H, W, 3] in [0, 1].
        inner_lips: [20, 2] outline of the opening, canvas pixels.
        outer_lips: [20, 2] outline of the lips.
    """
    side, width = photo.shape[0], float(np.ptp(outer_lips[:, 0]))
    inside = polygon_mask(inner_lips, side, grow=max(2.0, 0.025 * width))
    lips = polygon_mask(outer_lips, side) * (1 - inside)
    colours = fill(photo, lips > 0.5) if (lips > 0.5).any() else photo
    alpha = cv2.GaussianBlur(inside, (0, 0), max(1.0, 0.012 * width))[..., None]
    seam = cv2.GaussianBlur(polygon_mask(inner_lips, side, grow=0.5), (0, 0), max(0.7, 0.01 * width))[..., None]
    colours = colours * (1 - seam * _SEAM_SHADE)
    return np.concatenate([colours * alpha, alpha], -1).astype(np.float32)
