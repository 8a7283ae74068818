"""The photo as a texture: a canvas around the crop, cut into person and background, which together give the photo.

With matte a, the person's colour F and the filled-in background G are first guessed, F from the person's inside and G
from the wall around. What the guesses lack, `r = I - a F - (1 - a) G`, is shared: the person layer is `a F + q r`, the
wall `G + r (1 - q) / (1 - a)`, so that person and wall give the photo exactly where nothing moved, whatever matte,
guesses and share q. Hair goes along with the head (q near 1), and a pattern stays on the wall (q near 0): otherwise the
one stays behind as an outline, or the other swims around the hair as a halo.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from portrait4d.engines.lift.patches import complete
from preprocess.faces.crop import Crop

MARGIN = 64
"""Canvas pixels beyond each side of the crop, from which content can move into the picture."""

GOES_ALONG = 25.0
"""How much rather the person's colours are corrected than those of the wall where a difference is not the wall's."""

WISPS_PX = 9
"""Distance in pixels from the matte within which what differs from the wall is taken for hair."""

FILLED_PX = 90
"""Depth in pixels of the strip along the person's outline that is filled with patches of the background."""


@dataclass(frozen=True)
class Canvas:
    """The layers of a photo; pixel (MARGIN, MARGIN) of the canvas is the crop's pixel (0, 0).

    Attributes:
        photo: float32 [H, W, 3] in [0, 1], mirrored beyond its edges.
        alpha: float32 [H, W].
        person: float32 [H, W, 3], premultiplied.
        background: float32 [H, W, 3].
    """

    photo: np.ndarray
    alpha: np.ndarray
    person: np.ndarray
    background: np.ndarray


def cut_canvas(image: np.ndarray, crop: Crop) -> np.ndarray:
    """Resamples the photo onto the canvas.

    Args:
        image: uint8 [H, W, 3].
        crop: where the rendered square lies in it.

    Returns:
        The canvas float32 [side, side, 3] in [0, 1], where side is the crop's with `MARGIN` at both ends.
    """
    height, width = image.shape[:2]
    border = min(int(np.ceil((MARGIN + 2) / crop.scale)), height - 1, width - 1)
    padded = cv2.copyMakeBorder(image, border, border, border, border, cv2.BORDER_REFLECT_101)
    to_canvas = np.array([[1, 0, MARGIN], [0, 1, MARGIN], [0, 0, 1]], np.float64) @ crop.matrix
    from_padded = np.array([[1, 0, -border], [0, 1, -border], [0, 0, 1]], np.float64)
    side = crop.size + 2 * MARGIN
    photo = Crop(to_canvas @ from_padded, side, (padded.shape[0], padded.shape[1])).apply(padded)
    return photo.astype(np.float32) / 255


def fill(image: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Fills unknown pixels [H, W, C] from known ones over a pyramid (push-pull), smoothly and without a seam.

    Args:
        image: float32 [H, W, C].
        known: [H, W], bool or weights in [0, 1].
    """
    weight = known.astype(np.float32)
    levels: list[tuple[np.ndarray, np.ndarray]] = [(image * weight[..., None], weight)]
    while min(levels[-1][0].shape[:2]) > 2:
        colours, weights = levels[-1]
        colours, weights = cv2.pyrDown(colours), cv2.pyrDown(weights)
        levels.append((colours.reshape(*weights.shape, -1), weights))
    colours, weights = levels[-1]
    filled = colours / np.maximum(weights, 1e-6)[..., None]
    for colours, weights in reversed(levels[:-1]):
        filled = cv2.pyrUp(filled, dstsize=(weights.shape[1], weights.shape[0])).reshape(*weights.shape, -1)
        own = np.clip(weights, 0, 1)[..., None]
        filled = own * (colours / np.maximum(weights, 1e-6)[..., None]) + (1 - own) * filled
    return filled.astype(np.float32)


def continue_background(photo: np.ndarray, known: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """Guesses the background behind the person, float32 [H, W, 3]: patches near the outline, smooth further inside.

    Args:
        photo: float32 [H, W, 3] in [0, 1].
        known: bool [H, W], pixels that show background.
        covered: bool [H, W], pixels to be filled.
    """
    smooth = fill(photo, known)
    if not known.any():
        return smooth
    distance = cv2.distanceTransform((~known).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    patched = complete(photo, known, covered & (distance < FILLED_PX), smooth)
    share = np.clip((FILLED_PX - distance) / (FILLED_PX / 4), 0, 1)[..., None]
    return share * patched + (1 - share) * smooth


def split_canvas(photo: np.ndarray, known: np.ndarray, alpha: np.ndarray) -> Canvas:
    """Cuts the photo into person and background.

    Args:
        photo: float32 [H, W, 3] in [0, 1].
        known: bool [H, W], pixels that show nobody.
        alpha: float32 [H, W] in [0, 1], the refined matte.
    """
    away = cv2.distanceTransform((alpha <= 0.02).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    covered = away <= WISPS_PX
    guess = np.where(covered[..., None], continue_background(photo, known & ~covered, covered), photo)
    share = alpha[..., None]
    person = share * fill(photo, np.clip(10 * alpha - 9, 0, 1))
    lacking = photo - person - (1 - share) * guess
    foreign = _stands_out(lacking, photo, known & ~covered)
    odds = GOES_ALONG * (0.3 + 0.7 * foreign) * alpha**2
    moves = odds / (odds + (1 - alpha) ** 2)
    moves = np.maximum(moves, np.clip(1.5 - 1.5 * away / WISPS_PX, 0, 1) * foreign)[..., None]
    behind = guess + lacking * (1 - moves) / np.maximum(1 - share, 1e-6)
    return Canvas(photo, alpha, (person + moves * lacking).astype(np.float32), behind.astype(np.float32))


def _stands_out(lacking: np.ndarray, photo: np.ndarray, known: np.ndarray) -> np.ndarray:
    """How much more a difference [H, W, 3] is than the wall's own variation around the place, [H, W] in [0, 1]."""
    if not known.any():
        return np.ones(known.shape, np.float32)
    window = (41, 41)
    weight = cv2.blur(known.astype(np.float32), window)[..., None] + 1e-6
    mean = cv2.blur(photo * known[..., None], window) / weight
    square = cv2.blur(np.square(photo) * known[..., None], window) / weight
    variation = fill((square - mean**2).sum(-1, keepdims=True), known)[..., 0]
    difference = cv2.blur(np.square(lacking).sum(-1), (5, 5))
    return difference / (difference + 2 * np.maximum(variation, 0) + 1e-4)
