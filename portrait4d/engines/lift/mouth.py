"""The mouth: what shows through the lip opening.

Where the photo shows the source's own mouth, it is drawn in front of the head model's teeth, tongue and cavity. Their
small texture is painted here by rule: the project holds no picture of anyone's teeth. They get darker with depth and
where the mouth is hardly open.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import cv2
import numpy as np
import torch
from torch import Tensor

from flame.heads.head_model import HeadModel
from portrait4d.engines.lift.eyes import flat_patch, polygon_mask
from portrait4d.engines.lift.view import SourceView

_ATLAS = 128
_TOOTH_EDGES = np.array([0, 0.0086, 0.0152, 0.0228, 0.0298, 0.0366, 0.0466])
"""Where teeth meet, in metres along the upper arch from the midline: mean crown widths (Wheeler's Dental Anatomy)."""


@dataclass(frozen=True)
class Interior:
    """The generic inside of the mouth, of the head model.

    Attributes:
        rest: [V, 3] at zero expression, metres in the head frame.
        expression_basis: [V * 3, E].
        uv: [V, 2] atlas pixels.
        occlusion: [V] brightness factor that falls with depth.
        faces: [F, 3].
        atlas: [H, W, 4] texture in [0, 1].
    """

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
    """The part of the mouth's inside that the photo shows.

    Attributes:
        rest: [V, 3] metres in the head frame.
        uv: [V, 2] canvas pixels.
        faces: [F, 3].
        with_jaw: [V] how far a point follows the lower lip, in [0, 1].
        opening: [] the source's lip gap in metres.
        shows_teeth: bool [], whether the photo shows teeth, which are then drawn however far the mouth opens.
    """

    rest: Tensor
    uv: Tensor
    faces: Tensor
    with_jaw: Tensor
    opening: Tensor
    shows_teeth: Tensor

    def to(self, device: torch.device | str) -> OwnMouth:
        """The same mouth on another device."""
        return replace(self, **{field.name: getattr(self, field.name).to(device) for field in fields(self)})


_IVORY, _SKIN = np.array([0.80, 0.74, 0.65]), np.array([0.78, 0.60, 0.51])
"""Colours of teeth and of light skin in even white light, sRGB in [0, 1]."""

_CROWN_FROM = 0.52
"""Share of a tooth row's height, from its gum side, that is gum."""

_TEETH_DROP = {"teeth_upper": 0.0042, "teeth_lower": 0.003}
"""Metres by which the model's teeth are lowered: in speech, the upper incisors show and the lower ones hardly do."""


def paint_atlas(tooth_colour: np.ndarray, flesh_colour: np.ndarray) -> np.ndarray:
    """The interior's texture, float32 [4 * 128, 128, 4]: rows of upper teeth, lower teeth, tongue, cavity.

    Columns run along the arch, with the midline in the middle, rows from gum to edge.

    Args:
        tooth_colour: [3] RGB in [0, 1].
        flesh_colour: [3] RGB in [0, 1].
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
    own_teeth: np.ndarray | None,
) -> Interior:
    """Builds teeth, tongue and cavity of one person.

    Args:
        model: the head model.
        shape: [1, S] shape parameters of the source.
        photo: canvas [H, W, 3] in [0, 1].
        inner_lips: [N, 2] polygon in canvas pixels, for the colours.
        outer_lips: [N, 2] polygon in canvas pixels, for the colours.
        own_teeth: colour [3] of the teeth that the photo shows, if any; the model's upper row is then left out.
    """
    parts = ("teeth_upper", "teeth_lower", "tongue", "inner_mouth")
    rest = model.shaped(shape, torch.zeros(1, model.num_expression))[0]
    drawn = parts if own_teeth is None else parts[1:]
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
    ivory, flesh = light_colours(photo, outer_lips, inner_lips)
    tooth = ivory if own_teeth is None else own_teeth
    return Interior(
        rest[chosen],
        model.expression_basis[chosen].reshape(len(chosen) * 3, -1).contiguous(),
        uv[chosen],
        occlusion[chosen],
        renumber[faces],
        torch.from_numpy(paint_atlas(tooth, flesh)),
    )


def _tooth_uv(vertices: Tensor, row: int) -> Tensor:
    """Atlas pixels [V, 2] of tooth vertices [V, 3]: x along the arch, y from gum to edge."""
    x, y, z = vertices.T
    pivot = z.min() + 0.25 * (z.max() - z.min())
    angle = torch.atan2(x, z - pivot)
    reach = torch.hypot(x, z - pivot).mean()
    along = (angle * reach / float(_TOOTH_EDGES[-1])).clamp(-1, 1)
    height = (y - y.min()) / (y.max() - y.min())
    down = 1 - height if row == 0 else height
    return torch.stack([(along + 1) / 2 * (_ATLAS - 1) + 0.5, (row + 0.04 + 0.92 * down) * _ATLAS], -1)


def teeth_colour(photo: np.ndarray, inner_lips: np.ndarray) -> np.ndarray | None:
    """RGB [3] in [0, 1] of the teeth inside `inner_lips` [N, 2] in pixels; None if the photo shows none."""
    opening, width = np.ptp(inner_lips[:, 1]), np.ptp(inner_lips[:, 0])
    pixels = photo[polygon_mask(inner_lips, photo.shape[0], grow=-1) > 0.5]
    if opening < 0.06 * width or len(pixels) < 60:
        return None
    bright = pixels[pixels.mean(1) >= np.quantile(pixels.mean(1), 0.7)]
    saturation = (bright.max(1) - bright.min(1)) / np.maximum(bright.max(1), 1e-3)
    lips = photo[
        (polygon_mask(inner_lips, photo.shape[0], grow=7) - polygon_mask(inner_lips, photo.shape[0], grow=2)) > 0.5
    ]
    if np.median(saturation) > 0.33 or bright.mean() < 0.8 * np.median(lips):
        return None
    return np.median(bright, axis=0).astype(np.float32)


def light_colours(photo: np.ndarray, outer_lips: np.ndarray, inner_lips: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """RGB [3] in [0, 1] of generic teeth (ivory in the light on the skin around) and of flesh (that of the lips)."""
    side = photo.shape[0]
    outer = polygon_mask(outer_lips, side)
    lips = (outer > 0.5) & (polygon_mask(inner_lips, side, grow=2) < 0.5)
    around = (polygon_mask(outer_lips, side, grow=0.35 * float(np.ptp(outer_lips[:, 0]))) > 0.5) & (outer < 0.5)
    flesh = np.median(photo[lips], axis=0) if lips.any() else _SKIN * 0.8
    skin = np.median(photo[around], axis=0) if around.any() else _SKIN
    light = np.clip(skin.mean() / _SKIN.mean(), 0.3, 1.15)
    cast = ((skin / skin.mean()) / (_SKIN / _SKIN.mean())) ** 0.4
    return (_IVORY * light * cast).clip(0, 1).astype(np.float32), flesh.astype(np.float32)


def build_own_mouth(inner_lips: np.ndarray, depth: float, view: SourceView, *, shows_teeth: bool) -> OwnMouth:
    """Builds the geometry of the inside that the photo shows: a flat patch at the lips' depth.

    Args:
        inner_lips: [20, 2] canvas pixels.
        depth: metres from the camera along its axis.
        view: the camera of the source.
        shows_teeth: see `OwnMouth`.
    """
    top_left = inner_lips.min(0) - [4, 4 + own_teeth_reach(inner_lips)]
    uv, faces = flat_patch(top_left, inner_lips.max(0) + 4, rows=17, columns=17)
    opening, width = (float(np.ptp(inner_lips[:, axis])) * depth / view.focal_px for axis in (1, 0))
    down = (uv[:, 1] - float(inner_lips[:, 1].min())) / float(np.ptp(inner_lips[:, 1]) + 1)
    middle = ((down - 0.4) / 0.3).clamp(0, 1)
    with_jaw = middle * middle * (3 - 2 * middle) if opening > 0.3 * width else torch.zeros_like(down)
    rest = view.from_canvas(uv, depth)
    return OwnMouth(rest, uv, faces, with_jaw, torch.tensor(opening), torch.tensor(shows_teeth))


def own_mouth_texture(photo: np.ndarray, inner_lips: np.ndarray) -> np.ndarray:
    """The photo inside the lip opening, premultiplied float32 [H, W, 4].

    It is opaque up to two pixels beyond the opening, then fades out under the lips.
    """
    side = photo.shape[0]
    solid = polygon_mask(inner_lips, side, grow=2)
    alpha = np.maximum(solid, cv2.GaussianBlur(solid, (0, 0), 1.0))[..., None]
    return np.concatenate([photo * alpha, alpha], -1).astype(np.float32)


def own_teeth_texture(photo: np.ndarray, inner_lips: np.ndarray) -> np.ndarray:
    """The photo's teeth without the rim of lip around them, premultiplied float32 [H, W, 4].

    Each column of teeth is continued upwards, for an upper lip that rises above its place in the photo.
    """
    side = photo.shape[0]
    seen = polygon_mask(inner_lips, side, grow=-2)
    reach = own_teeth_reach(inner_lips)
    colours = photo.copy()
    for column in np.flatnonzero((seen > 0.5).any(0)):
        top = int(np.argmax(seen[:, column] > 0.5))
        start = max(top - reach, 0)
        fading = np.linspace(0.6, 1.0, top - start, dtype=np.float32)[:, None]
        colours[start:top, column] = photo[top + 2 : top + 5, column].mean(0) * fading
        colours[top : top + 2, column] = photo[top + 2, column]  # what is left of the lip's edge
    upwards = cv2.dilate(seen, np.ones((reach + 1, 1), np.uint8), anchor=(0, 0))
    alpha = cv2.GaussianBlur(upwards, (0, 0), 1.0)[..., None]
    return np.concatenate([colours * alpha, alpha], -1).astype(np.float32)


def own_teeth_reach(inner_lips: np.ndarray) -> int:
    """Canvas pixels by which the photo's teeth are continued upwards."""
    return max(4, int(0.18 * np.ptp(inner_lips[:, 0])))
