"""The picture of an eyeball: the photo's own eye, continued under its lids.

What the photo shows well gives the colours. Lashes and their shadow, or a slit that shows next to nothing, are no
white and no iris: there a plain eye, as light as the skin around it, takes their place.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from portrait4d.engines.lift.canvas import fill
from portrait4d.engines.lift.eyes import SHADOW, SHADOW_DEPTH, polygon_mask

NEUTRAL_IRIS = np.array([0.36, 0.27, 0.21], np.float32)
"""Colour of an iris that the photo does not show, over the brightness of the skin."""

PUPIL = 0.38
"""Radius of the pupil over that of the iris."""

NARROW, CLEAR = 0.09, 0.16
"""Lid gaps over eye width: up to the first nothing of the eye is taken from the photo, from the second on all of it."""

EYE_WIDTH = 0.03
"""Metres between the corners of an eye."""

RINGS = 12


@dataclass(frozen=True)
class EyePicture:
    """Both pictures of an eye over the part `rows`, `columns` of the canvas, float32 [h, w, 3].

    `seen` shows the photo in the opening, for lids as they are; `free` only what lids and lashes leave alone.
    """

    rows: slice
    columns: slice
    seen: np.ndarray
    free: np.ndarray


def complete_eye(photo: np.ndarray, lids: np.ndarray, iris: np.ndarray) -> EyePicture:
    """Completes an eye under its lids.

    Args:
        photo: float32 [H, W, 3] in [0, 1], square.
        lids: [16, 2] lid edge in canvas pixels, outer corner first and inner corner ninth.
        iris: [5, 2] centre and rim in canvas pixels, see `believable_iris`.
    """
    width = float(np.linalg.norm(lids[8] - lids[0]))
    left, top = (max(int(value), 0) for value in lids.min(0) - 0.5 * width)
    side = int(np.ceil(np.ptp(lids, axis=0).max() + width))
    part = photo[top : top + side, left : left + side]
    size = max(part.shape[:2])
    lids, iris = lids - [left, top], iris - [left, top]
    radius = float(np.linalg.norm(iris[1:] - iris[0], axis=-1).mean())
    y, x = np.mgrid[: part.shape[0], : part.shape[1]].astype(np.float32) + 0.5
    distance = np.hypot(x - iris[0, 0], y - iris[0, 1])

    def mask(grow: float) -> np.ndarray:
        return polygon_mask(lids, size, grow)[: part.shape[0], : part.shape[1]]

    trust = float(np.clip((lid_gap(lids) - NARROW) / (CLEAR - NARROW), 0, 1))
    inside = mask(-2) > 0.5
    skin = part[(mask(0.3 * width) > 0.5) & (mask(0.12 * width) < 0.5)]
    skin = np.median(skin, axis=0) if len(skin) else np.full(3, 0.5, np.float32)
    white = _white(part, inside, distance, radius, skin, trust)
    outside = np.clip(cv2.distanceTransform((inside < 0.5).astype(np.uint8), cv2.DIST_L2, 5) / radius, 0, 1)
    white = white * (1 - 0.25 * outside[..., None])
    texture = _complete_iris(part, inside, iris[0], radius, distance, skin=skin, trust=trust)
    soft = np.clip((1.06 * radius - distance) / max(0.12 * radius, 1.0) + 0.5, 0, 1)[..., None]
    completed = white * (1 - soft) + texture * soft
    completed += (1 - trust) * _catch_light(x - iris[0, 0], y - iris[0, 1], radius, skin)[..., None]
    upper = lids[[*range(15, 7, -1)]][:: int(np.sign(lids[8, 0] - lids[0, 0]) or 1)]
    below = np.maximum(y - np.interp(x, upper[:, 0], upper[:, 1]), 0) / width * EYE_WIDTH
    shaded = completed * (1 - SHADOW * np.exp(-below / SHADOW_DEPTH))[..., None]
    seen = np.maximum(cv2.GaussianBlur(mask(1), (0, 0), 0.6), mask(1))[..., None]
    free = trust * cv2.GaussianBlur(mask(-max(2.0, 0.05 * width)), (0, 0), 1.0)[..., None]
    return EyePicture(
        slice(top, top + part.shape[0]),
        slice(left, left + part.shape[1]),
        (part * seen + shaded * (1 - seen)).astype(np.float32),
        (part * free + completed * (1 - free)).astype(np.float32),
    )


def lid_gap(lids: np.ndarray) -> float:
    """Mean gap between the lid edges [16, 2], over the eye's width."""
    width = np.linalg.norm(lids[8] - lids[0])
    return float(np.linalg.norm(lids[1:8] - lids[:8:-1], axis=-1).mean() / width)


def believable_iris(lids: np.ndarray, iris: np.ndarray) -> np.ndarray:
    """The iris [5, 2] of an eye, its size bounded, and in the middle of an open eye where the lids [16, 2] hide it."""
    axis = lids[8] - lids[0]
    width = float(np.linalg.norm(axis))
    up = np.array([axis[1], -axis[0]]) / width * np.sign(axis[0])
    radius = float(np.linalg.norm(iris[1:] - iris[0], axis=-1).mean())
    size = np.clip(radius, 0.16 * width, 0.24 * width) / max(radius, 1e-3)
    trust = float(np.clip((lid_gap(lids) - 0.5 * NARROW) / (0.5 * NARROW), 0, 1))
    middle = lids[2:7].mean(0) + 0.12 * width * up
    centre = iris[0] + (1 - trust) * ((middle - iris[0]) @ up) * up
    return np.concatenate([centre[None], centre + size * (iris[1:] - iris[0])])


def _white(
    part: np.ndarray, inside: np.ndarray, distance: np.ndarray, radius: float, skin: np.ndarray, trust: float
) -> np.ndarray:
    """The white of the eye [h, w, 3]: the photo's, continued; a plain one where that is none or too dark to be true."""
    light = float(skin.mean())
    plain = (0.8 * light + 0.12) * (0.85 + 0.15 * skin / max(light, 1e-3))
    known = inside & (distance > 1.15 * radius)
    if known.sum() < 6:
        return np.broadcast_to(plain, part.shape)
    brightness = part.mean(-1)
    known &= brightness >= np.median(brightness[known])  # lashes and their shadows are no white of an eye
    believable = float(np.clip((np.median(brightness[known]) / plain.mean() - 0.5) / 0.3, 0, 1))
    share = believable * trust
    return share * fill(part, known) + (1 - share) * plain


def _complete_iris(
    part: np.ndarray,
    inside: np.ndarray,
    centre: np.ndarray,
    radius: float,
    distance: np.ndarray,
    *,
    skin: np.ndarray,
    trust: float,
) -> np.ndarray:
    """Fills the hidden pixels of the iris from the visible ones.

    A hidden pixel becomes the mean of its ring's median and its mirror image, top to bottom, or, where that is hidden
    too, the median alone; a plain iris where little is seen.
    """
    disc = distance < 1.3 * radius
    visible = inside & disc
    rings = np.minimum((distance / radius * RINGS).astype(int), 15)
    plain = np.tile(NEUTRAL_IRIS * float(skin.mean()), (16, 1))
    plain[: round(PUPIL * RINGS)] *= 0.25
    plain[RINGS - 2 :] *= 0.7
    colours = np.full((16, 3), np.nan, np.float32)
    for ring in range(16):
        chosen = visible & (rings == ring)
        if chosen.sum() > 2:
            colours[ring] = np.median(part[chosen], axis=0)
    known = ~np.isnan(colours[:, 0])
    share = trust * float(np.clip((visible & (distance < radius)).sum() / (0.3 * np.pi * radius**2), 0, 1))
    if known.any():
        for channel in range(3):
            colours[:, channel] = np.interp(np.arange(16), np.flatnonzero(known), colours[known, channel])
        colours = share * colours + (1 - share) * plain
    else:
        colours = plain
    texture = colours[rings].astype(np.float32)
    if share < 0.5:
        return texture
    rows, columns = np.nonzero(disc & ~visible)
    mirrored = np.clip(np.round(2 * centre[1] - rows - 1).astype(int), 0, len(part) - 1)
    known_mirror = visible[mirrored, columns]
    rows, columns, mirrored = rows[known_mirror], columns[known_mirror], mirrored[known_mirror]
    texture[rows, columns] = 0.5 * (texture[rows, columns] + part[mirrored, columns])
    texture[visible] = part[visible]
    return texture


def _catch_light(x: np.ndarray, y: np.ndarray, radius: float, skin: np.ndarray) -> np.ndarray:
    """A small reflection [h, w] above the pupil, at offsets in pixels from the iris's centre."""
    distance = np.hypot(x + 0.2 * radius, y + 0.3 * radius)
    return 0.9 * float(skin.mean()) * np.exp(-np.square(distance / (0.13 * radius)))
