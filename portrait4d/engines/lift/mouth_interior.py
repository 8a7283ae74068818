"""Builds the inside of the mouth: teeth as strips on the jaws, tongue and cavity as the head model has them.

Where the photo shows the source's own teeth, they are its teeth; else, and under the lips, those of the learned model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor

from flame.heads.head_model import HeadModel
from flame.landmarks.groups import INNER_LIPS, OUTER_LIPS
from portrait4d.engines.lift.eyes import grid_faces
from portrait4d.engines.lift.mouth import CAVITY, LOWER_TEETH, TONGUE, UPPER_TEETH, Interior
from portrait4d.engines.lift.mouth_photo import skin_around, teeth_colour, unlit_mouth
from portrait4d.engines.lift.rig import vertex_normals
from portrait4d.engines.lift.teeth import (
    BOTTOM,
    COLUMNS,
    HALF_WIDTH,
    LEAST_MATCH,
    ROWS,
    TEXEL,
    TOP,
    Placement,
    TeethModel,
    arch_points,
    complete_teeth,
    load_teeth_model,
    match_teeth,
    sample_strip,
    tooth_colour,
    usual_placement,
)
from portrait4d.engines.lift.view import SourceView

_TONGUE_COLOUR, _CAVITY_COLOUR = np.array([0.70, 0.40, 0.38]), np.array([0.52, 0.24, 0.22])
"""sRGB in [0, 1] in the even light of the portraits that the teeth were learned from."""

_BEHIND_LIPS, _BELOW_LIP = 0.006, 0.0039
"""Metres by which upper teeth stand at least behind the upper lip, and reach below it at rest (34 smiles: 3.9 mm,
standard deviation 1.4)."""

_LOWER_TINT = np.array([0.9, 0.87, 0.85, 1])
"""Lower teeth are darker than upper ones: they stand further back, and the lip shades them."""

_USUAL_TEETH = 0.88
"""Brightness of teeth that no photo shows, over that of the official portraits, whose smiles are of the whitest."""

_TONGUE_DROP = 0.004
"""Metres by which the head model's tongue is lowered: in speech, most of it lies below the lower teeth."""

_OVERBITE, _OVERJET = 0.002, 0.002
"""Metres by which upper teeth reach over the lower ones, down and forward."""

_LOWER_WIDTHS, _UPPER_WIDTHS = (5.3, 5.7, 6.8, 7.0, 7.0), (8.6, 6.6, 7.6, 7.0, 6.8)
"""Crown widths in mm from the midline (Wheeler's Dental Anatomy): lower teeth look like narrower upper ones."""


@dataclass(frozen=True)
class MouthSource:
    """What is known of a source's mouth.

    Attributes:
        shape: [1, S] of the head.
        photo: canvas [H, W, 3] in [0, 1].
        landmarks: [478, 2] canvas pixels.
        view: the camera.
        upper_lip: [3] middle of the upper lip's edge at zero expression, head frame, metres.
    """

    shape: Tensor
    photo: np.ndarray
    landmarks: np.ndarray
    view: SourceView
    upper_lip: np.ndarray

    @property
    def inner_lips(self) -> np.ndarray:
        """Outline [20, 2] of the opening."""
        return self.landmarks[list(INNER_LIPS)]


def build_interior(model: HeadModel, source: MouthSource) -> Interior:
    """Builds teeth, tongue and cavity of one person."""
    look = load_teeth_model()
    place, strip, light = _own_or_usual_teeth(model, source, look)
    upper = np.concatenate([strip, np.ones_like(strip[..., :1])], -1) * look.opacity[..., None]
    shadow = float(strip.mean() / (look.mean * look.tooth_colour * light).mean())  # on the upper row alone
    lower = (_as_lower_teeth(upper)[::-1] * _LOWER_TINT / [*(np.clip(shadow, 0.55, 1),) * 3, 1]).clip(0, 1)
    pictures = [upper, lower, _tongue_picture(light), _plain(_CAVITY_COLOUR * light)]
    atlas, rows = _stacked(pictures)
    rest = model.shaped(source.shape, torch.zeros(1, model.num_expression))[0]
    parts = [
        _skin_part(model, rest, "inner_mouth", CAVITY, rows[3]),
        _skin_part(model, rest, "tongue", TONGUE, rows[2]),
        _teeth_part(model, rest, place, LOWER_TEETH, rows[1]),
        _teeth_part(model, rest, place, UPPER_TEETH, rows[0]),
    ]
    return _joined(parts, atlas)


def _own_or_usual_teeth(
    model: HeadModel, source: MouthSource, look: TeethModel
) -> tuple[Placement, np.ndarray, np.ndarray]:
    """Where the upper teeth stand, their strip [ROWS, COLUMNS, 3], and the light [3] relative to usual light."""
    usual = usual_placement(model, source.shape)
    skin = skin_around(source.photo, source.landmarks[list(OUTER_LIPS)])
    light = _USUAL_TEETH * np.clip(skin / look.skin_colour, 0.15, 1.5) ** 0.6  # dark skin is not dark light
    if teeth_colour(source.photo, source.inner_lips) is not None:
        canvas = unlit_mouth(source.photo, source.inner_lips, source.view, usual)
        strip = sample_strip(canvas, source.view, usual)
        score, shift = match_teeth(strip, look.mean.mean(-1), look.opacity)
        if score > LEAST_MATCH:
            own = np.clip(tooth_colour(strip) / look.tooth_colour, 0.15, 1.5)
            return shift.applied(usual), complete_teeth(look, shift.warp(strip)), np.maximum(own, light)
    edge = np.array([0.0, source.upper_lip[1] - _BELOW_LIP, min(usual.edge[2], source.upper_lip[2] - _BEHIND_LIPS)])
    return Placement(edge), np.clip(look.mean * look.tooth_colour * light, 0, 1), light


def _as_lower_teeth(upper: np.ndarray) -> np.ndarray:
    """The strip of lower teeth, made of the upper ones: each column shows the same part of the matching tooth."""
    along = np.abs((np.arange(COLUMNS) + 0.5) * TEXEL - HALF_WIDTH)
    lower_edges, upper_edges = (
        np.concatenate([[0], np.cumsum(widths)]) / 1000 for widths in (_LOWER_WIDTHS, _UPPER_WIDTHS)
    )
    matching = np.sign(np.arange(COLUMNS) + 0.5 - COLUMNS / 2) * np.interp(along, lower_edges, upper_edges)
    column = (matching + HALF_WIDTH) / TEXEL - 0.5
    x, y = np.meshgrid(column.astype(np.float32), np.arange(ROWS, dtype=np.float32))
    return cv2.remap(upper.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _tongue_picture(light: np.ndarray) -> np.ndarray:
    """The upper side of a tongue [64, COLUMNS, 4], tip below: a groove along the middle, buds, and a wet shine."""
    x, y = np.meshgrid(np.linspace(-1, 1, COLUMNS), np.linspace(0, 1, 64))
    buds = cv2.GaussianBlur(np.random.default_rng(0).normal(size=x.shape), (0, 0), 4.0, sigmaY=1.0)
    grain = 1 + 0.025 * np.clip(buds / buds.std(), -2, 2)
    groove = 1 - 0.22 * np.exp(-((x / 0.09) ** 2)) * np.clip(1.5 - 1.5 * y, 0, 1)
    side = 1 - 0.25 * x**2
    wet = cv2.GaussianBlur(np.random.default_rng(1).normal(size=x.shape), (0, 0), 16.0, sigmaY=4.0)
    shine = 0.16 * np.exp(-(((np.abs(x) - 0.3) / 0.24) ** 2) - ((y - 0.8) / 0.14) ** 2) * (1 + 0.4 * wet / wet.std())
    colour = _TONGUE_COLOUR * light * (grain * groove * side)[..., None] + (shine * light.mean())[..., None]
    return np.concatenate([colour.clip(0, 1), np.ones_like(x)[..., None]], -1)


def _plain(colour: np.ndarray) -> np.ndarray:
    return np.broadcast_to(np.append(np.clip(colour, 0, 1), 1.0), (4, COLUMNS, 4))


def _stacked(pictures: list[np.ndarray]) -> tuple[Tensor, list[int]]:
    """An atlas of pictures [h, COLUMNS, 4], one below the other, and the first row of each."""
    rows = np.cumsum([0] + [len(picture) for picture in pictures[:-1]])
    return torch.from_numpy(np.concatenate(pictures).astype(np.float32)), rows.tolist()


_Part = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, int]
"""Points, their expression basis, texture places, brightness, triangles, and layer of a part of the interior."""


def _skin_part(model: HeadModel, rest: Tensor, name: str, layer: int, row: int) -> _Part:
    """Tongue or cavity, as the head model has it; it gets darker with the distance from the lips."""
    faces = model.faces[model.regions[name][model.faces].all(1)]
    chosen, faces = torch.unique(faces, return_inverse=True)
    points = rest[chosen] - torch.tensor([0.0, _TONGUE_DROP if layer == TONGUE else 0.0, 0.0])
    behind = (rest[model.loops["lip_inner_loop"], 2].median() - points[:, 2]).clamp(min=0)
    if layer == TONGUE:
        normals = vertex_normals(points[None], faces)[0]
        facing = (normals @ torch.nn.functional.normalize(torch.tensor([0.0, 0.6, 0.8]), dim=0)).clamp(min=0)
        bright = (0.5 + 0.5 * facing) * torch.exp(-(behind - 0.014).clamp(min=0) / 0.018)
    else:
        bright = torch.exp(-behind / 0.014).clamp(0.04, 1)
    uv = torch.tensor([COLUMNS / 2, row + 2.0]).repeat(len(chosen), 1)
    if layer == TONGUE:
        across = points[:, 0] / points[:, 0].abs().max()
        forward = (points[:, 2] - points[:, 2].max() + 0.045) / 0.045
        uv = torch.stack([(across + 1) / 2 * COLUMNS, row + 1 + 62 * forward.clamp(0, 1)], -1)
    return points, model.expression_basis[chosen], uv, bright, faces, layer


def _teeth_part(model: HeadModel, rest: Tensor, place: Placement, layer: int, row: int) -> _Part:
    """A row of teeth as a strip; its gums reach further than its texture. Lower teeth follow the head model's."""
    along, height = np.meshgrid(
        np.linspace(-HALF_WIDTH, HALF_WIDTH, 33), np.array([-BOTTOM, 0.0, 0.0035, 0.007, TOP, 0.02])
    )
    faces = grid_faces(*along.shape)
    down = (TOP - np.minimum(height, TOP)) / TEXEL
    if layer == LOWER_TEETH:
        place = replace(place, edge=place.edge + [0, _OVERBITE, -_OVERJET], curve=-place.curve)
        points = arch_points(along, height, place) * [1, -1, 1] + [0, 2 * place.edge[1], 0]
        nearest = _nearest(torch.from_numpy(points.reshape(-1, 3)).float(), rest, model.regions["teeth_lower"])
        basis, down = model.expression_basis[nearest], ROWS - down
    else:
        points = arch_points(along, height, place)
        basis = torch.zeros(points.size // 3, 3, model.num_expression)
        faces = faces[:, [0, 2, 1]]  # its rows go up
    uv = np.stack([(along + HALF_WIDTH) / TEXEL, row + np.clip(down, 0.5, ROWS - 0.5)], -1)
    bright = np.where(height > TOP, 0.5, 1.0) * (0.9 if layer == LOWER_TEETH else 1.0)
    flat = [
        torch.from_numpy(part.astype(np.float32)) for part in (points.reshape(-1, 3), uv.reshape(-1, 2), bright.ravel())
    ]
    return flat[0], basis, flat[1], flat[2], torch.from_numpy(faces), layer


def _nearest(points: Tensor, rest: Tensor, region: Tensor) -> Tensor:
    """Numbers [N] of the vertices of a region that are nearest to points [N, 3]."""
    chosen = torch.nonzero(region)[:, 0]
    return chosen[torch.cdist(points, rest[chosen]).argmin(1)]


def _joined(parts: list[_Part], atlas: Tensor) -> Interior:
    first = np.cumsum([0] + [len(part[0]) for part in parts]).tolist()
    basis = torch.cat([part[1] for part in parts])
    return Interior(
        torch.cat([part[0] for part in parts]),
        basis.reshape(len(basis) * 3, -1).contiguous(),
        torch.cat([part[2] for part in parts]),
        torch.cat([part[3] for part in parts]),
        torch.cat([part[4] + start for part, start in zip(parts, first[:-1], strict=True)]),
        atlas,
        torch.cat([torch.full((len(part[4]),), part[5]) for part in parts]),
    )
