"""Differences of a result's picture from the true one, pixel by pixel; definitions in `definitions.py`."""

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from flame.errors import InputError

MOST_DECIBELS = 100.0
"""PSNR of equal pictures, which would be infinite and spoil every mean."""


def psnr(result: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in dB of two pictures `[H, W, 3]`; higher is better, 100 for equal ones.

    Raises:
        ValueError: their shapes differ.
    """
    _check_shapes(result, truth)
    error = float(np.square(result.astype(np.float64) - truth).mean())
    return min(MOST_DECIBELS, float(10 * np.log10(255**2 / error))) if error else MOST_DECIBELS


def ssim(result: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    """Structural similarity of two pictures `[H, W, 3]`, at least 11 px on a side; higher is better, 1 if equal.

    Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity"; each channel
    by itself.

    Raises:
        ValueError: their shapes differ.
    """
    _check_shapes(result, truth)
    value = structural_similarity(
        truth, result, channel_axis=-1, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )  # fmt: skip
    return float(value)  # pyright: ignore[reportArgumentType]  (a tuple only if maps are asked for)


def fit_size(picture: NDArray[np.uint8], *, height: int, width: int) -> NDArray[np.uint8]:
    """A result `[h, w, 3]` at the size of its truth: by area where it shrinks, by cubic interpolation where it grows.

    Raises:
        InputError: its sides have another ratio, so that it cannot show the same part.
    """
    if picture.shape[:2] == (height, width):
        return picture
    if abs(picture.shape[1] * height - picture.shape[0] * width) > max(height, width, *picture.shape[:2]):
        raise InputError(
            f"expected results of the truth's shape, {width} x {height} px or a multiple, got {picture.shape[1]} x "
            f"{picture.shape[0]}: cut the true clips as the results are cut"
        )
    interpolation = cv2.INTER_AREA if picture.shape[0] > height else cv2.INTER_CUBIC
    return cv2.resize(picture, (width, height), interpolation=interpolation).astype(np.uint8)


def _check_shapes(result: NDArray, truth: NDArray) -> None:
    if result.shape != truth.shape or result.ndim != 3:
        raise ValueError(f"expected pictures of one shape [H, W, 3], got {list(result.shape)} and {list(truth.shape)}")
