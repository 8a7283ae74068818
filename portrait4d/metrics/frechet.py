"""The Fréchet distance between Gaussians fitted to two sets of features.

Heusel et al. 2017, "GANs Trained by a Two Time-Scale Update Rule", section 1 (with features of Inception-v3: FID). The
trace of the root comes from eigenvalues of symmetric matrices instead of `sqrtm`, so it never turns complex.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class GaussianFit:
    """A Gaussian fitted to features.

    Attributes:
        mean: `[D]` float64.
        covariance: `[D, D]` float64, unbiased.
        count: features that it was fitted to.
    """

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    count: int


def fit_gaussian(features: NDArray) -> GaussianFit:
    """Mean and unbiased covariance of features `[N, D]`, N at least 2."""
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(f"expected features [N, D] of at least 2 pictures, got {list(features.shape)}")
    values = features.astype(np.float64)
    mean = values.mean(0)
    centred = values - mean
    return GaussianFit(mean, centred.T @ centred / (len(values) - 1), len(values))


def frechet_distance(first: GaussianFit, second: GaussianFit) -> float:
    """Squared 2-Wasserstein distance of two Gaussians: `|m - n|^2 + tr(A + B - 2 (A B)^(1/2))`.

    The trace of `(A B)^(1/2)` is that of the symmetric `(A^(1/2) B A^(1/2))^(1/2)`. Fits to few pictures lie further
    apart than their sources: compare distances of the same counts only.
    """
    if first.mean.shape != second.mean.shape:
        raise ValueError(f"expected features of one length, got {len(first.mean)} and {len(second.mean)}")
    values, vectors = np.linalg.eigh(first.covariance)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    inner = np.linalg.eigvalsh(root @ second.covariance @ root)
    trace = np.trace(first.covariance) + np.trace(second.covariance) - 2 * np.sqrt(inner.clip(0)).sum()
    return float(np.square(first.mean - second.mean).sum() + trace)
