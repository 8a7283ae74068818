"""Light that stays in place while the head turns: a linear model of the photo's shading, applied as a ratio.

Luminance on the face is fitted as `a + b . n` over surface normals (first-order spherical harmonics, Ramamoorthi,
Hanrahan 2001). A point whose normal goes from n to n' is brightened by a power of `(a + b . n') / (a + b . n)`, which
is 1 where nothing moved. Folds of the moving face are shaded in the same way.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

_LIMITS = (0.86, 1.14)
_STRENGTH = 0.6
"""Exponent of the ratio; below 1, because the fit mistakes part of the albedo for shading."""

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def fit_light(photo: np.ndarray, uv: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Ambient and directional light (a, b) of a photo, float32 [4].

    Args:
        photo: float32 [H, W, 3] in [0, 1].
        uv: [V, 2] pixels of points of the face.
        normals: [V, 3] unit normals of the same points, camera space.

    Returns:
        Coefficients for luminance in units of the face's median; (1, 0, 0, 0) if the face is too small for a fit.
    """
    facing = normals[:, 2] > 0.3
    if facing.sum() < 50:
        return np.array([1, 0, 0, 0], np.float32)
    column = np.clip(uv[facing, 0].astype(int), 0, photo.shape[1] - 1)
    row = np.clip(uv[facing, 1].astype(int), 0, photo.shape[0] - 1)
    luminance = (photo[row, column] @ _LUMA).astype(np.float64)
    median = max(float(np.median(luminance)), 1e-3)
    design = np.concatenate([np.ones((facing.sum(), 1)), normals[facing]], 1)
    weight = np.ones(len(luminance))
    solution = np.array([median, 0, 0, 0])
    for _ in range(8):  # iteratively reweighted least squares: brows, lips and nostrils are not shading
        scaled = design * weight[:, None]
        solution = np.linalg.solve(
            scaled.T @ design + 1e-2 * np.diag([0, 1, 1, 1]) * len(weight) / 10, scaled.T @ luminance
        )
        residual = np.abs(design @ solution - luminance) / (0.1 * median)
        weight = 1 / (1 + residual**2)
    return (solution / median).astype(np.float32)


def shading_ratio(light: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """Brightness factor [B, V] of points whose camera-space normals go from [V, 3] to [B, V, 3]."""
    ambient, direction = light[0], light[1:]
    old = (ambient + before @ direction).clamp(min=0.3)
    new = (ambient + after @ direction).clamp(min=0.3)
    return ((new / old) ** _STRENGTH).clamp(*_LIMITS)


def light_asymmetry(light: np.ndarray) -> float:
    """How one-sided a light [4] is: the difference in brightness between both sides of the face over their mean."""
    return float(abs(light[1]) * 1.4 / max(light[0] + 0.6 * light[3], 0.2))
