"""Composition of the final frames: a head crop pasted back into the whole picture, and panels side by side."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from preprocess.faces.crop import Crop

LONGEST_SIDE_PX = 1920
"""Longest side of whole-picture results, which are scaled down to it: larger videos rarely play smoothly."""

FEATHER = 0.06
"""Width of the blend along the border of the crop, as a fraction of the crop."""

_TOUCHING_PX = 0.5
"""A side of the crop within this distance of the picture's border counts as lying on it."""


def even(length: float) -> int:
    """The nearest even number of pixels, at least 2, which the pixel format yuv420p requires."""
    return max(2, 2 * round(length / 2))


@dataclass(frozen=True)
class Sides:
    """A choice of sides of a crop."""

    top: bool = True
    bottom: bool = True
    left: bool = True
    right: bool = True


def feather_mask(size: int, *, width: float = FEATHER, sides: Sides = Sides()) -> np.ndarray:
    """A weight float32 `[size, size]` in [0, 1]: 1 inside, falling smoothly to 0 at the given sides.

    Args:
        size: side in pixels.
        width: width of the fall, as a fraction of the side.
        sides: sides at which the weight falls.
    """
    rise = np.clip((np.arange(size) + 0.5) / size / width, 0, 1)
    rise = (rise * rise * (3 - 2 * rise)).astype(np.float32)
    flat = np.ones(size, np.float32)
    rows = np.minimum(rise if sides.top else flat, rise[::-1] if sides.bottom else flat)
    columns = np.minimum(rise if sides.left else flat, rise[::-1] if sides.right else flat)
    return np.minimum(rows[:, None], columns[None, :])


def to_centres(matrix: np.ndarray) -> np.ndarray:
    """A homography `[3, 3]` between pixels counted from the first one's corner, for OpenCV's, from its centre."""
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]], dtype=np.float64)
    return np.linalg.inv(half) @ np.asarray(matrix, dtype=np.float64) @ half


class PasteBack:
    """Pastes a rendered head crop back into the picture that it was cut from.

    It is blended along the sides of the crop that lie inside the picture, not along those on its border. Both sides of
    the result are even.

    Args:
        picture: uint8 `[H, W, 3]`, the whole source.
        crop: Where the crop lies in it, upright.
        result_height: Of the result in pixels; None for that of the picture, or less, so that the longest side is at
            most `LONGEST_SIDE_PX`.
    """

    def __init__(self, picture: np.ndarray, crop: Crop, *, result_height: int | None = None) -> None:
        height, width = picture.shape[:2]
        scale = min(1.0, LONGEST_SIDE_PX / max(height, width)) if result_height is None else result_height / height
        self.height, self.width = even(height * scale), even(width * scale)
        interpolation = cv2.INTER_AREA if scale <= 1 else cv2.INTER_CUBIC
        self._picture = cv2.resize(picture, (self.width, self.height), interpolation=interpolation)
        to_picture = np.diag([self.width / width, self.height / height, 1.0])
        crop_to_picture = to_picture @ np.linalg.inv(np.asarray(crop.matrix, dtype=np.float64))
        corners = np.array(
            [[0, 0, 1], [crop.size, 0, 1], [0, crop.size, 1], [crop.size, crop.size, 1]], dtype=np.float64
        )
        placed = corners @ crop_to_picture.T
        placed = placed[:, :2] / placed[:, 2:]
        inside = (placed.min(0) > _TOUCHING_PX, placed.max(0) < np.array([self.width, self.height]) - _TOUCHING_PX)
        sides = Sides(left=inside[0][0], top=inside[0][1], right=inside[1][0], bottom=inside[1][1])
        left, top = np.floor(np.clip(placed.min(0), 0, [self.width - 1, self.height - 1])).astype(int)
        right, bottom = np.ceil(np.clip(placed.max(0), [left + 1, top + 1], [self.width, self.height])).astype(int)
        self._box = (int(top), int(bottom), int(left), int(right))
        shift = np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1]], dtype=np.float64)
        self._matrix = to_centres(shift @ crop_to_picture)
        self._weight = np.clip(self._warp(feather_mask(crop.size, sides=sides)), 0, 1)[..., None]
        self._size = crop.size

    def _warp(self, image: np.ndarray) -> np.ndarray:
        top, bottom, left, right = self._box
        scale = float(np.sqrt(abs(np.linalg.det(self._matrix[:2, :2]))))
        if scale < 0.8:  # without a low-pass, a small face in a large picture flickers
            image = cv2.GaussianBlur(image, (0, 0), 0.5 * np.sqrt(1 / scale**2 - 1))
        flags = cv2.INTER_LINEAR if scale < 1 else cv2.INTER_CUBIC
        return cv2.warpPerspective(
            image, self._matrix, (right - left, bottom - top), flags=flags, borderMode=cv2.BORDER_REPLICATE
        )

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """The whole picture uint8 `[height, width, 3]` with `image` uint8 `[size, size, 3]` in place of the head."""
        if image.shape[0] != self._size:
            image = cv2.resize(image, (self._size, self._size), interpolation=cv2.INTER_AREA)
        top, bottom, left, right = self._box
        result = self._picture.copy()
        below = result[top:bottom, left:right].astype(np.float32)
        blended = below + self._weight * (self._warp(image).astype(np.float32) - below)
        result[top:bottom, left:right] = np.clip(blended + 0.5, 0, 255).astype(np.uint8)
        return result


@lru_cache(maxsize=8)
def _panel_width(height: int, width: int, panel_height: int) -> int:
    return even(width * panel_height / height)


def fit_height(image: np.ndarray, height: int) -> np.ndarray:
    """Scales a picture uint8 `[H, W, C]` to a height; keeps its proportions, with an even width."""
    width = _panel_width(image.shape[0], image.shape[1], height)
    if image.shape[:2] == (height, width):
        return image
    shrinks = height < image.shape[0]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def beside(*images: np.ndarray) -> np.ndarray:
    """Joins pictures `[H, W, 3]` of one height in a row."""
    return np.concatenate(images, axis=1)


@dataclass(frozen=True)
class DriverView:
    """Cuts the driver's panel out of its frames: the tracked head crop, or the whole frame.

    Attributes:
        matrix: `[3, 3]` from frame pixels to crop pixels; None keeps the whole frame.
        size: Side of the crop in pixels.
        height: Height of the panel in pixels.
    """

    matrix: Any
    size: int
    height: int

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """The panel uint8 `[height, width, 3]` of a frame uint8 `[H, W, 3]`."""
        if self.matrix is None:
            return fit_height(frame, self.height)
        matrix = to_centres(np.diag([self.height / self.size, self.height / self.size, 1.0]) @ np.asarray(self.matrix))
        return cv2.warpPerspective(
            frame, matrix, (self.height, self.height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
