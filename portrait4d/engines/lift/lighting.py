"""Light that stays in the room while the head turns: spherical harmonics fitted to the photo's shading.

Linear luminance on the face is fitted as nine spherical harmonics of the surface normals (second order; Ramamoorthi and
Hanrahan 2001, "An efficient representation for irradiance environment maps", eq. 10). A point whose normal goes from n
to n' is brightened by E(n') / E(n), through the curve of sRGB as a power; it is 1 where nothing moved. A turn of the
whole head counts fully, a fold of the skin less: the photo's skin has shading of its own there.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from portrait4d.engines.lift.tensor_fields import smoothstep

NUM_HARMONICS, NUM_FIRST_ORDER = 9, 4
"""Lengths of a light: now, and in older avatar files."""

_LIMITS, _FOLD_LIMITS = (0.55, 1.25), (0.86, 1.14)
_GAMMA = 2.2
"""The curve of sRGB as a power: luminance is fitted in linear light, pictures are brightened in sRGB."""
_STRENGTH, _FOLD_STRENGTH = 0.9, 0.6
"""Exponents of the ratio; below 1, because the fit mistakes part of the albedo for shading."""
_LIDS_REACH, _FOLDS_FROM = 0.008, 0.024
"""Metres from the lid edges within which no fold is shaded, and from which all of it is: lids roll over the eyeball,
and what a shut one looks like is painted; its normals would throw highlights into the sockets."""
_LEAST_LIGHT = 0.15
"""Of the face's median: shadows are not darker, so that no noise is brightened out of them."""
_STIFFNESS = np.array([0, 1, 1, 1, 4, 4, 4, 4, 4], np.float64) * 2e-3
"""Weight of a small coefficient beside that of the points; brows and lips would pass for light of the second order."""

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def fit_light(photo: np.ndarray, uv: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """The light of a photo as harmonics, float32 [9].

    Args:
        photo: float32 [H, W, 3] in [0, 1].
        uv: [V, 2] pixels of points of the face.
        normals: [V, 3] unit normals of the same points, camera space.

    Returns:
        Coefficients for linear luminance in units of the face's median; (1, 0, ...) if the face is too small for a fit.
    """
    facing = normals[:, 2] > 0.2
    if facing.sum() < 50:
        return np.eye(1, NUM_HARMONICS, dtype=np.float32)[0]
    column = np.clip(uv[facing, 0].astype(int), 0, photo.shape[1] - 1)
    row = np.clip(uv[facing, 1].astype(int), 0, photo.shape[0] - 1)
    luminance = np.clip(photo[row, column] @ _LUMA, 0, None).astype(np.float64) ** _GAMMA
    median = max(float(np.median(luminance)), 1e-4)
    design = harmonics(torch.from_numpy(normals[facing].astype(np.float64))).numpy()
    weight = np.ones(len(luminance))
    solution = np.zeros(NUM_HARMONICS)
    for _ in range(8):  # iteratively reweighted least squares: brows, lips and nostrils are not shading
        scaled = design * weight[:, None]
        system = scaled.T @ design + np.diag(_STIFFNESS) * len(weight)
        solution = np.linalg.solve(system, scaled.T @ luminance)
        residual = np.abs(design @ solution - luminance) / (0.2 * median)
        weight = 1 / (1 + residual**2)
    return (solution / median).astype(np.float32)


def harmonics(normals: Tensor) -> Tensor:
    """The real spherical harmonics up to the second order of unit normals [..., 3], without their constants, [..., 9].

    Equation 10 of the paper; the constants are left to the coefficients.
    """
    x, y, z = normals.unbind(-1)
    return torch.stack([torch.ones_like(x), x, y, z, x * y, y * z, x * z, 3 * z * z - 1, x * x - y * y], -1)


def first_order_light(light: Tensor) -> Tensor:
    """Coefficients [9] of the light [4] of older avatar files, which was fitted to sRGB: `a + b . n`, linearised."""
    ambient = light[:1].clamp(min=0.1)
    linear = torch.cat([ambient**_GAMMA, _GAMMA * ambient ** (_GAMMA - 1) * light[1:]])
    return torch.cat([linear, linear.new_zeros(NUM_HARMONICS - NUM_FIRST_ORDER)])


def shading_ratio(light: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """Brightness factor [B, V], in sRGB, of points whose camera-space normals go from [V, 3] to [B, V, 3]."""
    old, new = (_irradiance(light, normals) for normals in (before, after))
    return ((new / old) ** (_STRENGTH / _GAMMA)).clamp(*_LIMITS)


def fold_ratio(light: Tensor, before: Tensor, after: Tensor, shares: Tensor) -> Tensor:
    """Likewise of points whose normals go from [B, V, 3] to [B, V, 3] because the skin folds; `shares` [V] of it."""
    old, new = (_irradiance(light, normals) for normals in (before, after))
    return 1 + shares * (((new / old) ** (_FOLD_STRENGTH / _GAMMA)).clamp(*_FOLD_LIMITS) - 1)


def fold_shares(points: Tensor, lid_edges: Tensor) -> Tensor:
    """Share [V] in [0, 1] of the shading of folds at points [V, 3], none at lid edges [N, 3]; metres."""
    distance = torch.cdist(points, lid_edges).amin(1)
    return smoothstep((distance - _LIDS_REACH) / (_FOLDS_FROM - _LIDS_REACH))


def light_asymmetry(light: np.ndarray) -> float:
    """How one-sided a light [9] is: the difference in sRGB between both sides of the face over their mean."""
    sides = torch.tensor([[0.7, 0.0, 0.71], [-0.7, 0.0, 0.71]])
    one, other = (_irradiance(torch.from_numpy(light), sides) ** (1 / _GAMMA)).tolist()
    return 2 * abs(one - other) / (one + other)


def _irradiance(light: Tensor, normals: Tensor) -> Tensor:
    light = first_order_light(light) if len(light) == NUM_FIRST_ORDER else light
    return (harmonics(normals) @ light).clamp(min=_LEAST_LIGHT)
