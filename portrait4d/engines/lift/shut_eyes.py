"""The picture of a shut eye: painted once per source from the photo's own skin and lashes, where the shut lids lie.

An open eye shows its upper lid as a few rows of pixels with lashes in front. Stretched over the closing eye they would
become stripes, so the lid is painted: skin continued from around the eye with the photo's grain, rounded over the
eyeball, a soft shadow below the crease; along the line where the lids meet, the photo's own lashes, turned down.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from flame.landmarks.groups import LEFT_BROW, RIGHT_BROW
from portrait4d.engines.lift.canvas import fill
from portrait4d.engines.lift.lids import LASH_ROOTS

BROWS = {"left": LEFT_BROW[:5] + LEFT_BROW[:4:-1], "right": RIGHT_BROW[:5] + RIGHT_BROW[:4:-1]}
"""Outline of a brow: the lower edge from outside to inside, the upper edge back."""

LEAST_PAINTED, MOST_PAINTED = 0.08, 0.24
"""Bounds of the height above the upper edge up to which the lid is painted, in eye widths, as all lengths here.

Above it the paint fades over `FADES`, so that no outline of the open eye is left.
"""

LEAST_FADES, FADES = 0.09, 0.22
"""Height over which the painted lid blends with what the photo shows above it: more the higher the lashes reach."""

PAINTED_BELOW = 0.07
"""Depth below the lower edge down to which its lashes and shadow are painted over."""

CLEAR = 0.04
"""Distance from the tips of the lashes at which skin is taken for clear of them."""

LEAST_LASHES, MOST_LASHES = 0.07, 0.18
"""Bounds of the height that the photo's lashes take above the upper edge."""

HEAVY_LASHES = 0.12
"""Height from which lashes count as made up: a dark line, and paint that reaches far enough to hide all of them."""

FORESHORTENED = 0.7
"""Length of the lashes of a shut eye in the picture over that of the open one's."""

DARKEST = 0.7
"""Brightness over that of the skin below the eye from which skin counts fully: make-up and shadows of sockets do not.

The shut lid comes out of the socket and into the light.
"""

WARMTH = np.array([0.8, 1.0, 1.15], np.float32)
"""Exponents of brightness: in its own shadow skin turns red."""

FINE = 0.05
"""Standard deviation of the blur that separates the grain of skin from its shading."""


@dataclass(frozen=True)
class EyeFrame:
    """Coordinates of one eye over a part of the canvas: along its axis and up from it, in eye widths.

    `along` and `up` [h, w] belong to the canvas pixels of `rows` and `columns`; the axis goes through both corners,
    which lie at -.5 and +.5. `upper`, `lower` and `shut` [w'] are heights of the open edges and of the shut one at
    ascending positions, see `height`.
    """

    rows: slice
    columns: slice
    along: np.ndarray
    up: np.ndarray
    width: float
    upper: np.ndarray
    lower: np.ndarray
    shut: np.ndarray

    @classmethod
    def of(cls, upper: np.ndarray, lower: np.ndarray, shut: np.ndarray, side: int) -> EyeFrame:
        """From edges [N, 2] in canvas pixels, corner to corner from left to right; the canvas has `side` pixels."""
        axis = upper[-1] - upper[0]
        width = float(np.linalg.norm(axis))
        axis, centre = axis / width, (upper[-1] + upper[0]) / 2
        normal = np.array([axis[1], -axis[0]])
        reach = int(np.ceil(1.1 * width))
        left, top = (int(np.clip(np.floor(value) - reach, 0, side - 2)) for value in centre)
        right, bottom = (int(np.clip(np.ceil(value) + reach, 2, side)) for value in centre)
        y, x = np.mgrid[top:bottom, left:right].astype(np.float32) + 0.5
        offset = np.stack([x, y], -1) - centre

        def local(edge: np.ndarray) -> np.ndarray:
            return np.stack([(edge - centre) @ axis, (edge - centre) @ normal], 0) / width

        return cls(
            slice(top, bottom),
            slice(left, right),
            (offset @ axis / width).astype(np.float32),
            (offset @ normal / width).astype(np.float32),
            width,
            *(local(edge) for edge in (upper, lower, shut)),
        )

    def height(self, edge: np.ndarray) -> np.ndarray:
        """Height [h, w] of an edge [2, N] below or above each pixel; level beyond the corners."""
        return np.interp(self.along, edge[0], edge[1]).astype(np.float32)

    def sample(self, picture: np.ndarray, along: np.ndarray, up: np.ndarray) -> np.ndarray:
        """A picture [h, w] or [h, w, 3] of this part of the canvas at local coordinates, bilinearly."""
        height, width = self.along.shape
        origin = np.array([self.along[0, 0], self.up[0, 0]])
        right = np.array([self.along[0, 1] - origin[0], self.up[0, 1] - origin[1]])
        down = np.array([self.along[1, 0] - origin[0], self.up[1, 0] - origin[1]])
        inverse = np.linalg.inv(np.stack([right, down], 1))
        offset = np.stack([along - origin[0], up - origin[1]], -1) @ inverse.T
        column, row = (
            offset[..., axis].astype(np.float32).clip(0, size - 1) for axis, size in ((0, width), (1, height))
        )
        return cv2.remap(picture, column, row, cv2.INTER_LINEAR)


@dataclass(frozen=True)
class Lashes:
    """Upper lashes of a shut eye: `picture`, premultiplied [h, w, 4], see `Lid`, and their `length` in eye widths."""

    picture: np.ndarray
    length: float


def shut_eye(photo: np.ndarray, frame: EyeFrame, brow: np.ndarray) -> tuple[np.ndarray, Lashes]:
    """Paints one shut eye.

    Args:
        photo: float32 [H, W, 3] in [0, 1].
        frame: where the eye lies.
        brow: [B, 2] outline of the brow in canvas pixels, which is never painted over.

    Returns:
        The lids, premultiplied float32 [h, w, 4] over the frame's part of the canvas, and the upper lashes.
    """
    part = photo[frame.rows, frame.columns]
    upper, lower, shut = (frame.height(edge) for edge in (frame.upper, frame.lower, frame.shut))
    darkness = _darkness(part, frame.width)
    tip = _lash_height(darkness, frame)
    top = upper + np.clip(tip + CLEAR, LEAST_PAINTED, MOST_PAINTED)
    fades = float(np.interp(tip, (LEAST_LASHES, HEAVY_LASHES), (LEAST_FADES, FADES)))
    over = _brow(frame, brow)
    skin = _skin(part, frame, top, lower, over)
    lashes = _paint_lashes(darkness, skin, frame, tip)
    brightness = _shading(frame, top, shut) * _grain(part, frame, lower)
    skin = skin * brightness[..., None] ** WARMTH
    alpha = (_coverage(frame, top, lower, fades) * (1 - over))[..., None]
    return np.concatenate([skin * alpha, alpha], -1).astype(np.float32), lashes


def _coverage(frame: EyeFrame, top: np.ndarray, lower: np.ndarray, fades: float) -> np.ndarray:
    """How far the paint hides the photo, [h, w]: fully between the lids, less and less around them."""
    above, below = np.maximum(frame.up - top, 0), np.maximum(lower - frame.up, 0)
    aside = np.maximum(np.abs(frame.along) - 0.55, 0)
    away = np.sqrt(np.square(above / fades) + np.square(below / PAINTED_BELOW) + np.square(aside / 0.2))
    return _ramp(0.5 - away, 0.5)


def _darkness(part: np.ndarray, width: float) -> np.ndarray:
    """How much darker than the skin around them thin structures are, [h, w] in [0, 1]: black top-hat over closing."""
    light = part.mean(-1) + 0.02
    side = 2 * max(1, round(0.17 * width)) + 1
    closed = cv2.morphologyEx(light, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))
    return 1 - light / cv2.GaussianBlur(closed, (0, 0), 0.05 * width).clip(0.02)


def _lash_height(darkness: np.ndarray, frame: EyeFrame) -> float:
    """Height above the upper edge up to which the picture is dark without a break, along most of the edge."""
    heights = np.arange(0, MOST_LASHES, 0.01)
    along, edge = frame.upper
    dark = frame.sample(darkness, np.tile(along, (len(heights), 1)), edge + heights[:, None]) > 0.15
    unbroken = np.logical_and.accumulate(dark[2:], axis=0).sum(0)
    return float(np.clip(np.quantile(heights[1] * (2 + unbroken), 0.75), LEAST_LASHES, MOST_LASHES))


def _paint_lashes(darkness: np.ndarray, skin: np.ndarray, frame: EyeFrame, tip: float) -> Lashes:
    """The photo's lashes up to `tip` above the upper edge, turned down.

    Columns go along the upper edge, point by point; rows go down, from `LASH_ROOTS` lengths above the edge to one
    below it.
    """
    height, width = 24, 64
    count = frame.upper.shape[1]
    place = (np.arange(width) + 0.5) / width * (count - 1)
    along, edge = (np.tile(np.interp(place, np.arange(count), values), (height, 1)) for values in frame.upper)
    share = (1 + LASH_ROOTS) * (np.arange(height)[:, None] + 0.5) / height - LASH_ROOTS
    heavy = float(np.clip((tip - LEAST_LASHES) / (HEAVY_LASHES - LEAST_LASHES), 0, 1))
    seen = frame.sample(darkness, along, edge + np.abs(share) * tip)
    first = int(np.argmax(share > 0.3))
    seen[first:] = np.minimum.accumulate(seen[first:], axis=0)  # beyond a gap lies the crease
    seen *= _ramp(0.65 - share, 0.35)
    line = (0.25 + 0.3 * heavy) * np.exp(-np.square(share * tip / 0.028))
    roots = np.where(share < 0, np.exp(-np.square(share / LASH_ROOTS / 0.7)), 1)
    alpha = (np.clip(np.maximum(seen, line), 0, 0.97) * _ramp(0.48 - np.abs(along), 0.05) * roots)[..., None]
    colour = (0.3 - 0.18 * heavy) * frame.sample(skin, along, edge)
    picture = np.concatenate([colour * alpha, alpha], -1).astype(np.float32)
    return Lashes(picture, FORESHORTENED * tip)


def _ramp(values: np.ndarray, width: float) -> np.ndarray:
    """0 below -width, 1 above width, smooth between."""
    share = np.clip(0.5 + values / (2 * width), 0, 1)
    return share * share * (3 - 2 * share)


def _brow(frame: EyeFrame, outline: np.ndarray) -> np.ndarray:
    mask = np.zeros(frame.along.shape, np.uint8)
    corner = np.array([frame.columns.start, frame.rows.start])
    cv2.fillPoly(mask, [np.round((outline - corner - 0.5) * 8).astype(np.int32)], 255, cv2.LINE_AA, 3)
    grown = cv2.dilate(mask, np.ones((2 * max(1, round(0.03 * frame.width)) + 1,) * 2, np.uint8))
    return cv2.GaussianBlur(grown.astype(np.float32) / 255, (0, 0), max(1.0, 0.03 * frame.width))


def _skin(part: np.ndarray, frame: EyeFrame, top: np.ndarray, lower: np.ndarray, over: np.ndarray) -> np.ndarray:
    """The colour of skin around the eye, continued over it."""
    hidden = (np.abs(frame.along) < 0.58) & (frame.up < top) & (frame.up > lower - 0.08)
    near = (np.abs(frame.along) < 0.75) & (frame.up < top + 0.3) & (frame.up > lower - 0.35)
    known = near & ~hidden & (over < 0.2)
    light = cv2.GaussianBlur(part, (0, 0), 0.02 * frame.width).mean(-1)
    below = known & (np.abs(frame.along) < 0.5) & (frame.up < lower)
    typical = float(np.median(light[below])) if below.any() else float(np.median(light))
    believed = np.clip((light / max(typical, 1e-3) - DARKEST + 0.15) / 0.15, 0, 1)
    filled = fill(part, known * believed)
    return cv2.GaussianBlur(filled, (0, 0), max(1.0, 0.06 * frame.width))


def _grain(part: np.ndarray, frame: EyeFrame, lower: np.ndarray) -> np.ndarray:
    """The fine structure [h, w] of the skin below the eye, mirrored up, as a factor."""
    light = part.mean(-1) + 0.02
    fine = np.clip(light / cv2.GaussianBlur(light, (0, 0), FINE * frame.width), 0.9, 1.1)
    return frame.sample(fine, frame.along, 2 * (lower - 0.11) - frame.up)


def _shading(frame: EyeFrame, top: np.ndarray, shut: np.ndarray) -> np.ndarray:
    """Brightness [h, w] of the shut lid: round over the eyeball, dark under the crease and towards the lashes."""
    height = np.clip((frame.up - shut) / np.maximum(top - shut, 0.05), 0, 1)
    across = 1 - np.square(np.clip(2 * frame.along, -1, 1))
    bulge = 0.06 * across * np.sin(np.pi * np.clip(height * 1.1, 0, 1))
    crease = 0.1 * np.exp(-np.square((height - 0.85) / 0.1)) * across**0.5
    edge = 0.2 * np.exp(-np.square((frame.up - shut) / 0.07)) * across**0.5
    return 1 + bulge - crease - edge
