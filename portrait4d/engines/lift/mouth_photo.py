"""What a photo shows of a mouth: whether there are teeth, how they look in even light, the skin around."""

from __future__ import annotations

import numpy as np
import torch

from portrait4d.engines.lift.eyes import polygon_mask
from portrait4d.engines.lift.mouth_light import opening_light
from portrait4d.engines.lift.teeth import Placement
from portrait4d.engines.lift.view import SourceView

_TALLEST = 0.0115
"""Metres below the upper lip within which upper teeth are looked for."""


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


def unlit_mouth(photo: np.ndarray, inner_lips: np.ndarray, view: SourceView, place: Placement) -> np.ndarray:
    """What a photo shows of upper teeth, as if evenly lit: float32 [H, W, 4], colours and how far they are known.

    Known is what lies inside the lips' edges and not further below the upper lip than teeth reach.
    """
    side = photo.shape[0]
    edge = torch.from_numpy(place.edge.astype(np.float32))[None]
    pixels_per_metre = view.focal_px / -float(view.to_camera(edge)[0, 2])
    light = opening_light(torch.from_numpy(polygon_mask(inner_lips, side)), pixels_per_metre).numpy()
    known = polygon_mask(inner_lips, side, grow=-1)
    upper_edge = np.argmax(known > 0.5, axis=0)
    known[np.arange(side)[:, None] > upper_edge + _TALLEST * pixels_per_metre] = 0
    return np.concatenate([np.minimum(photo / np.maximum(light, 0.3), 1.1), known[..., None]], -1).astype(np.float32)


def skin_around(photo: np.ndarray, outer_lips: np.ndarray) -> np.ndarray:
    """RGB [3] in [0, 1] of the skin around a mouth with the outline [N, 2] in pixels."""
    side = photo.shape[0]
    near = polygon_mask(outer_lips, side, grow=0.35 * float(np.ptp(outer_lips[:, 0])))
    around = (near > 0.5) & (polygon_mask(outer_lips, side) < 0.5)
    return np.median(photo[around], axis=0) if around.any() else np.full(3, 0.6)
