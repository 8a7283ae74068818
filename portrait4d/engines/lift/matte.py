"""The matte of a photo, with its hair: a network's coarse one is drawn along the photo's edges and told by its colours.

Two estimates share the work. A guided filter puts the coarse matte onto the edges of the photo. Where person and wall
differ in colour more than each varies around the place, the colour itself says how much of a pixel is hair.
"""

from __future__ import annotations

import cv2
import numpy as np

from portrait4d.engines.lift.canvas import fill

BAND = 37
"""Width in pixels of the band along the outline in which colours may change the matte."""

RIM = 11
"""Width in pixels by which ears and outline of the fitted head may be off, both sides together."""

NOISE = 0.0004
"""Variance of colours in [0, 1] that every photo has."""


def solve_matte(photo: np.ndarray, coarse: np.ndarray, head: np.ndarray) -> np.ndarray:
    """Draws a coarse matte along the photo's own edges and hairs; float32 [H, W] in [0, 1].

    Args:
        photo: float32 [H, W, 3] in [0, 1].
        coarse: float32 [H, W] in [0, 1].
        head: bool [H, W], pixels of the fitted head; its rim is left to the photo.
    """
    surely = cv2.erode(head.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (RIM, RIM)))
    certain = np.maximum(np.clip((coarse - 0.5) * 1.6 + 0.5, 0, 1), surely.astype(np.float32))
    guided = refine_matte(photo, certain)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (BAND, BAND))
    inside = cv2.erode((certain > 0.95).astype(np.uint8), kernel[::2, ::2])
    outside = cv2.erode((certain < 0.05).astype(np.uint8), kernel)
    shown, trusted = colour_matte(photo, inside > 0, outside > 0)
    return guided + trusted * (shown - guided)


def colour_matte(photo: np.ndarray, inside: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What colours say between a certain inside and outside.

    Args:
        photo: float32 [H, W, 3] in [0, 1].
        inside: bool [H, W], pixels that surely show the person.
        outside: bool [H, W], pixels that surely do not.

    Returns:
        The matte float32 [H, W] in [0, 1], and how far to trust it, [H, W] in [0, 1]: 0 where it is certain already.
    """
    if not inside.any() or not outside.any():
        return inside.astype(np.float32), np.zeros(inside.shape, np.float32)
    small = cv2.resize(photo, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    values = np.concatenate([small, (small * small).sum(-1, keepdims=True)], -1)
    size, full = (small.shape[1], small.shape[0]), (photo.shape[1], photo.shape[0])
    means, spreads = [], []
    for mask in (inside, outside):
        weight = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        near = cv2.resize(fill(values, weight), full)
        means.append(near[..., :3])
        spreads.append(np.maximum(near[..., 3] - (near[..., :3] ** 2).sum(-1), 0))
    axis = means[0] - means[1]
    squared = (axis * axis).sum(-1)
    shown = ((photo - means[1]) * axis).sum(-1) / np.maximum(squared, 1e-6)
    shown = np.clip((shown - 0.12) / 0.7, 0, 1)
    trusted = squared / (squared + 3 * (spreads[0] + spreads[1]) + 3 * NOISE)
    unsure = cv2.blur((~(inside | outside)).astype(np.float32), (5, 5))
    return shown.astype(np.float32), (trusted**2 * unsure).astype(np.float32)


def refine_matte(photo: np.ndarray, matte: np.ndarray, *, radius: int = 9, epsilon: float = 4e-4) -> np.ndarray:
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
