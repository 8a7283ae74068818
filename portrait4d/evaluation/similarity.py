"""The similarity transform in the plane that carries points to others, by least squares (Umeyama 1991)."""

import numpy as np
from numpy.typing import NDArray


def fit_similarity(points: NDArray, target: NDArray) -> NDArray[np.float64]:
    """Turn, scale and shift `[2, 3]` that carry points `[N, 2]` nearest to a target `[N, 2]`; never a mirror.

    In the plane such a transform is a product of complex numbers, so the fit is linear.

    Raises:
        ValueError: the points coincide.
    """
    middle, goal = points.mean(0), target.mean(0)
    (x, y), (u, v) = (points - middle).T, (target - goal).T
    length = float((x * x + y * y).sum())
    if length < 1e-12:
        raise ValueError(f"expected points [N, 2] that differ, got {len(points)} at one place")
    real, imaginary = (x * u + y * v).sum() / length, (x * v - y * u).sum() / length
    linear = np.array([[real, -imaginary], [imaginary, real]])
    return np.concatenate([linear, (goal - linear @ middle)[:, None]], 1)
