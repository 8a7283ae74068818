"""The photo as a texture: a canvas around the crop, cut into person and background, which together give the photo.

With matte a, photo I and filled-in background G, the person layer is stored premultiplied: `P = I - (1 - a) G`.
Unmoved, `P + (1 - a) G = I` exactly, whatever the matte and the fill. An error in either therefore shows only where the
person moves, and there as a faint ghost rather than a halo.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from preprocess.faces.crop import Crop

MARGIN = 64
"""Canvas pixels beyond each side of the crop, from which content can move into the picture."""

MIRRORED_PX = 70
"""Depth in pixels of the strip along the person's outline that is filled with mirrored background."""


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


def cut_canvas(image: np.ndarray, crop: Crop) -> tuple[np.ndarray, np.ndarray]:
    """Resamples the photo onto the canvas.

    Args:
        image: uint8 [H, W, 3].
        crop: where the rendered square lies in it.

    Returns:
        The canvas float32 [side, side, 3] in [0, 1], where side is the crop's with `MARGIN` at both ends, and the mask
        bool [side, side] of its pixels that lie inside the photo.
    """
    height, width = image.shape[:2]
    border = min(int(np.ceil((MARGIN + 2) / crop.scale)), height - 1, width - 1)
    padded = cv2.copyMakeBorder(image, border, border, border, border, cv2.BORDER_REFLECT_101)
    to_canvas = np.array([[1, 0, MARGIN], [0, 1, MARGIN], [0, 0, 1]], np.float64) @ crop.matrix
    from_padded = np.array([[1, 0, -border], [0, 1, -border], [0, 0, 1]], np.float64)
    side = crop.size + 2 * MARGIN
    photo = Crop(to_canvas @ from_padded, side, (padded.shape[0], padded.shape[1])).apply(padded)
    centres = (np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1) + 0.5 - to_canvas[:2, 2]) / crop.scale
    known = np.all((centres >= 0) & (centres < [width, height]), axis=-1)
    return photo.astype(np.float32) / 255, known


def refine_matte(photo: np.ndarray, matte: np.ndarray, *, radius: int = 9, epsilon: float = 2e-4) -> np.ndarray:
    """Aligns a coarse matte with the photo's edges; returns float32 [H, W] in [0, 1].

    Guided filter with a colour guide (He, Sun, Tang, "Guided Image Filtering", 2013, eq. 19-21), whose coefficients are
    computed at half size ("Fast Guided Filter", 2015); values near 0 and 1 are then set to 0 and 1.

    Args:
        photo: float32 [H, W, 3] in [0, 1].
        matte: float32 [H, W] in [0, 1].
        radius: side of the filter's window, in pixels of the half-size picture.
        epsilon: variance of colours in [0, 1] below which a window counts as flat.
    """
    window = (radius, radius)

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.blur(values, window)

    guide = cv2.resize(photo, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    coarse = cv2.resize(matte, (guide.shape[1], guide.shape[0]), interpolation=cv2.INTER_AREA)
    average = mean(guide)
    second = np.stack([mean(guide * guide[..., k : k + 1]) for k in range(3)], axis=-1)
    covariance = second - average[..., :, None] * average[..., None, :] + epsilon * np.eye(3, dtype=np.float32)
    cross = mean(guide * coarse[..., None]) - average * mean(coarse)[..., None]
    slope = np.linalg.solve(covariance, cross[..., None])[..., 0].astype(np.float32)
    offset = mean(coarse) - (slope * average).sum(-1)
    size = (photo.shape[1], photo.shape[0])
    refined = (cv2.resize(mean(slope), size) * photo).sum(-1) + cv2.resize(mean(offset), size)
    return np.clip((refined - 0.08) / 0.84, 0, 1).astype(np.float32)


def keep_component(matte: np.ndarray, row: int, column: int) -> np.ndarray:
    """Removes every part of a matte [H, W] that is not connected with the given pixel, such as other people."""
    _, labels = cv2.connectedComponents((matte > 0.3).astype(np.uint8))
    label = labels[row, column]
    if label == 0:
        return matte
    keep = cv2.dilate((labels == label).astype(np.uint8), np.ones((9, 9), np.uint8))
    return matte * keep


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


def continue_background(photo: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Guesses the background behind the person [H, W, 3]: mirrored at the outline, smoother further inside.

    A mirrored background keeps the grain and the pattern of the real one, which a smooth fill does not; only a strip
    along the outline is ever seen.

    Args:
        photo: float32 [H, W, 3] in [0, 1].
        known: bool [H, W], pixels that show background.
    """
    smooth = fill(photo, known)
    if not known.any():
        return smooth
    distance, labels = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    labels = np.asarray(labels, np.int64)
    rows, columns = np.nonzero(known)
    nearest = np.zeros((labels.max() + 1, 2), np.float32)
    nearest[labels[rows, columns]] = np.stack([columns, rows], -1)
    y, x = np.mgrid[: photo.shape[0], : photo.shape[1]].astype(np.float32)
    outline = cv2.GaussianBlur(nearest[labels], (0, 0), 4)  # neighbours mirror at about the same place
    mirrored = 2 * outline - np.stack([x, y], -1)
    filled = np.where(known[..., None], photo, smooth)
    picture = cv2.remap(filled, mirrored[..., 0], mirrored[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    share = np.exp(-np.square(distance / MIRRORED_PX))[..., None]
    return share * picture + (1 - share) * smooth


def split_canvas(photo: np.ndarray, known: np.ndarray, alpha: np.ndarray) -> Canvas:
    """Cuts the photo into person and background.

    Args:
        photo: float32 [H, W, 3] in [0, 1].
        known: bool [H, W], pixels that lie inside the photo.
        alpha: float32 [H, W] in [0, 1], the refined matte.
    """
    covered = cv2.dilate((alpha > 0.03).astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (21, 21))) > 0
    behind = np.where(covered[..., None], continue_background(photo, known & ~covered), photo).astype(np.float32)
    return Canvas(photo, alpha, (photo - (1 - alpha[..., None]) * behind).astype(np.float32), behind)
