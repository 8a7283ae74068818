"""Mouth: what lies behind the lip opening.

The source's own mouth where the photo shows it, in front of teeth, tongue and cavity of the head model in a small
texture painted here by rule
(no picture of anyone's teeth is in the project). The generic part gets darker with depth and where the mouth is
hardly open.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import cv2
import numpy as np
import torch
from torch import Tensor

from flame.head_model import HeadModel
from portrait4d.lift.eyes import flat_patch, polygon_mask
from portrait4d.lift.view import SourceView

INNER_LIPS = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
"""Inner edge of the lips in the 478 points, in order around the opening."""

_ATLAS = 128
_TOOTH_EDGES = np.array([0, 0.0086, 0.0152, 0.0228, 0.0298, 0.0366, 0.0466])
"""Where teeth meet, metres along the upper arch from the midline: average crown widths (Wheeler's Dental Anatomy)."""


@dataclass(frozen=True)
class Interior:
    """Generic inside of the mouth. `rest` [V, 3] at zero expression, `expression_basis` [V * 3, E], `uv` [V, 2] atlas
    pixels, `occlusion` [V] brightness factor by
    depth, `faces` [F, 3], `atlas` [H, W, 4]."""

    rest: Tensor
    expression_basis: Tensor
    uv: Tensor
    occlusion: Tensor
    faces: Tensor
    atlas: Tensor

    def to(self, device: torch.device | str) -> Interior:
        """The same interior on another device."""
        return replace(self, **{field.name: getattr(self, field.name).to(device) for field in fields(self)})

    def deform(self, expression: Tensor) -> Tensor:
        """Head-frame points [B, V, 3] for expressions [B, E]."""
        return self.rest + (expression @ self.expression_basis.T).reshape(len(expression), -1, 3)


@dataclass(frozen=True)
class OwnMouth:
    """The part of the mouth's inside that the photo shows. `rest` [V, 3], `uv` [V, 2] canvas pixels, `faces` [F, 3],
    `with_jaw` [V] how much a point follows the
    lower lip, `opening` the source's lip gap in metres, `shows_teeth` whether it stays when the mouth opens further."""

    rest: Tensor
    uv: Tensor
    faces: Tensor
    with_jaw: Tensor
    opening: Tensor
    shows_teeth: Tensor

    def to(self, device: torch.device | str) -> OwnMouth:
        """The same on another device."""
        return replace(self, **{field.name: getattr(self, field.name).to(device) for field in fields(self)})


_IVORY, _SKIN = np.array([0.80, 0.74, 0.65]), np.array([0.78, 0.60, 0.51])
"""Colours of teeth and of light skin in even white light, sRGB in [0, 1]."""

_CROWN_FROM = 0.52
"""Share of the model's tooth rows, from above, that is gum."""

_TEETH_DROP = {"teeth_upper": 0.0042, "teeth_lower": 0.003}
"""Metres by which the model's teeth are lowered: speech shows upper incisors under the lip, hardly lower ones."""


def paint_atlas(tooth_colour: np.ndarray, flesh_colour: np.ndarray) -> np.ndarray:
    """The interior's texture, float32 [4 * 128, 128, 4]: rows of upper teeth, lower teeth, tongue, cavity.

    Teeth: across = along the arch (midline in the middle), down = from gum to edge.
    """
    arch = np.abs(np.linspace(-1, 1, _ATLAS)) * _TOOTH_EDGES[-1]
    atlas = np.ones((4, _ATLAS, _ATLAS, 4), np.float32)
    for row, squeeze in ((0, 1.0), (1, 0.66)):
        edges = _TOOTH_EDGES * squeeze
        gap = np.abs(arch[:, None] * (1 if row == 0 else 0.8) - edges[None, :]).min(1)
        groove = 1 - 0.22 * np.exp(-((gap / 0.0004) ** 2))
        back = 1 - 0.55 * np.clip(arch / _TOOTH_EDGES[-1] - 0.25, 0, 1)
        down = np.linspace(0, 1, _ATLAS)
        gum = np.clip((_CROWN_FROM - down) / 0.06, 0, 1)[:, None, None]
        colour = (
            tooth_colour
            * (0.9 + 0.1 * np.sin(np.pi * np.clip(down, 0, 1)))[:, None, None]
            * (groove * back)[None, :, None]
        )
        atlas[row, ..., :3] = colour * (1 - gum) + flesh_colour * 0.8 * gum
    atlas[2, ..., :3] = flesh_colour * np.array([0.8, 0.72, 0.72], np.float32)
    atlas[3, ..., :3] = flesh_colour * 0.3
    return atlas.reshape(4 * _ATLAS, _ATLAS, 4)


def build_interior(
    model: HeadModel,
    shape: Tensor,
    photo: np.ndarray,
    inner_lips: np.ndarray,
    outer_lips: np.ndarray,
    *,
    has_own_teeth: bool,
) -> Interior:
    """Teeth, tongue and cavity of one person.

    Args:
        model: the head model.
        shape: [1, S].
        photo: canvas [H, W, 3] in [0, 1].
        inner_lips, outer_lips: polygons in canvas pixels, for the colours.
        has_own_teeth: the photo shows upper teeth; a second row is left out.
    """
    parts = ("teeth_upper", "teeth_lower", "tongue", "inner_mouth")
    rest = model.shaped(shape, torch.zeros(1, model.num_expression))[0]
    drawn = parts[1:] if has_own_teeth else parts
    inside = torch.stack([model.regions[part] for part in drawn]).any(0)
    faces = model.faces[inside[model.faces].all(1)]
    chosen = torch.unique(faces)
    renumber = torch.full((len(rest),), -1, dtype=torch.long)
    renumber[chosen] = torch.arange(len(chosen))
    uv = torch.full((len(rest), 2), _ATLAS / 2)
    uv[:, 1] = 3.5 * _ATLAS
    for row, part in enumerate(parts[:2]):
        vertices = torch.nonzero(model.regions[part])[:, 0]
        uv[vertices] = _tooth_uv(rest[vertices], row)
    uv[model.regions["tongue"], 1] = 2.5 * _ATLAS
    front = rest[model.loops["lip_inner_loop"], 2].median()
    behind = (front - rest[:, 2]).clamp(min=0)
    teeth = model.regions["teeth_upper"] | model.regions["teeth_lower"]
    occlusion = torch.exp(-(behind - 0.01 * teeth).clamp(min=0) / 0.02).clamp(0.08, 1)
    occlusion[model.regions["teeth_lower"]] *= 0.6
    for part, drop in _TEETH_DROP.items():
        rest = rest - drop * torch.outer(model.regions[part].float(), torch.tensor([0.0, 1.0, 0.0]))
    tooth, flesh = mouth_colours(photo, inner_lips, outer_lips)
    return Interior(
        rest[chosen],
        model.expression_basis[chosen].reshape(len(chosen) * 3, -1).contiguous(),
        uv[chosen],
        occlusion[chosen],
        renumber[faces],
        torch.from_numpy(paint_atlas(tooth, flesh)),
    )


def _tooth_uv(vertices: Tensor, row: int) -> Tensor:
    """Atlas pixels of tooth vertices: across by the arch length from the midline, down from gum to edge."""
    x, y, z = vertices.T
    pivot = z.min() + 0.25 * (z.max() - z.min())
    angle = torch.atan2(x, z - pivot)
    reach = torch.hypot(x, z - pivot).mean()
    along = (angle * reach / float(_TOOTH_EDGES[-1])).clamp(-1, 1)
    height = (y - y.min()) / (y.max() - y.min())
    down = 1 - height if row == 0 else height
    return torch.stack([(along + 1) / 2 * (_ATLAS - 1) + 0.5, (row + 0.04 + 0.92 * down) * _ATLAS], -1)


def mouth_colours(photo: np.ndarray, inner_lips: np.ndarray, outer_lips: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tooth and flesh colour [3] that fit the photo: own teeth if they show, else ivory in the light on the skin."""
    side = photo.shape[0]
    outer = polygon_mask(outer_lips, side)
    lips = (outer > 0.5) & (polygon_mask(inner_lips, side, grow=2) < 0.5)
    around = (polygon_mask(outer_lips, side, grow=0.35 * float(np.ptp(outer_lips[:, 0]))) > 0.5) & (outer < 0.5)
    flesh = np.median(photo[lips], axis=0) if lips.any() else _SKIN * 0.8
    skin = np.median(photo[around], axis=0) if around.any() else _SKIN
    pixels = photo[polygon_mask(inner_lips, side, grow=-1) > 0.5]
    if len(pixels) > 60:
        bright = pixels[pixels.mean(1) >= np.quantile(pixels.mean(1), 0.7)]
        saturation = (bright.max(1) - bright.min(1)) / np.maximum(bright.max(1), 1e-3)
        if np.median(saturation) < 0.33 and bright.mean() > 0.8 * flesh.mean():
            return np.median(bright, axis=0).astype(np.float32), flesh.astype(np.float32)
    light = np.clip(skin.mean() / _SKIN.mean(), 0.3, 1.15)
    return (_IVORY * light).clip(0, 1).astype(np.float32), flesh.astype(np.float32)


def build_own_mouth(inner_lips: np.ndarray, depth: float, opening: float, view: SourceView) -> OwnMouth:
    """Geometry of the visible inside: a flat patch at the lips' depth.

    Args:
        inner_lips: [20, 2] canvas pixels.
        depth: metres from the camera.
        opening: lip gap in metres.
        view: of the source.
    """
    uv, faces = flat_patch(inner_lips.min(0) - 4, inner_lips.max(0) + 4, rows=13, columns=17)
    width = float(np.ptp(inner_lips[:, 0])) * depth / view.focal_px
    down = (uv[:, 1] - uv[:, 1].min()) / (uv[:, 1].max() - uv[:, 1].min())
    middle = ((down - 0.4) / 0.3).clamp(0, 1)
    with_jaw = middle * middle * (3 - 2 * middle) if opening > 0.25 * width else torch.zeros_like(down)
    shows_teeth = torch.tensor(opening > 0.06 * width)
    return OwnMouth(view.from_canvas(uv, depth), uv, faces, with_jaw, torch.tensor(opening), shows_teeth)


def own_mouth_texture(photo: np.ndarray, inner_lips: np.ndarray) -> np.ndarray:
    """The photo inside the lip opening, premultiplied float32 [H, W, 4]; solid two pixels beyond it, then fading
    under the lips."""
    side = photo.shape[0]
    solid = polygon_mask(inner_lips, side, grow=2)
    alpha = np.maximum(solid, cv2.GaussianBlur(solid, (0, 0), 1.0))[..., None]
    return np.concatenate([photo * alpha, alpha], -1).astype(np.float32)


def own_teeth_texture(photo: np.ndarray, inner_lips: np.ndarray) -> np.ndarray:
    """The photo's teeth without the rim of lip around them, premultiplied float32 [H, W, 4]."""
    alpha = cv2.GaussianBlur(polygon_mask(inner_lips, photo.shape[0], grow=-2), (0, 0), 1.0)[..., None]
    return np.concatenate([photo * alpha, alpha], -1).astype(np.float32)
