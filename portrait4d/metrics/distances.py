"""Distances between two sets of features, with all that a reader must know to compare them with others."""

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from portrait4d.metrics.extractor import FeatureExtractor
from portrait4d.metrics.feature_names import FRECHET_TITLES, KERNEL_TITLES, FeatureName
from portrait4d.metrics.frechet import fit_gaussian, frechet_distance
from portrait4d.metrics.kernel import kernel_distance


@dataclass(frozen=True)
class FeatureDistance:
    """A distance and its conditions.

    Attributes:
        title: what it may be called.
        distance: smaller is nearer.
        deviation: over subsets, of a kernel distance; None for a Fréchet distance.
        features: name of the extractor.
        weights_sha256: of its file.
        resize_filter: that pictures were scaled with.
        num_features: length of a feature.
        num_real: pictures of the first set.
        num_fake: pictures of the second set.
        notes: what limits the comparison, one sentence each.
    """

    title: str
    distance: float
    deviation: float | None
    features: str
    weights_sha256: str
    resize_filter: str
    num_features: int
    num_real: int
    num_fake: int
    notes: tuple[str, ...] = ()


def measure_frechet(real: NDArray, fake: NDArray, extractor: FeatureExtractor) -> FeatureDistance:
    """The Fréchet distance of features `[N, D]` and `[M, D]` of the extractor."""
    distance = frechet_distance(fit_gaussian(real), fit_gaussian(fake))
    fewest, size = min(len(real), len(fake)), real.shape[1]
    notes = (
        (f"{fewest} pictures for {size} features: the distance is far too large, compare it with equal counts only",)
        if fewest <= size
        else ()
    )
    return _describe(FRECHET_TITLES, extractor, real, fake, distance=distance, notes=notes)


def measure_kernel(
    real: NDArray, fake: NDArray, extractor: FeatureExtractor, *, random: np.random.Generator | None = None
) -> FeatureDistance:
    """The kernel distance of features `[N, D]` and `[M, D]` of the extractor; unbiased, so it suits few pictures."""
    found = kernel_distance(real, fake, random=random)
    return _describe(KERNEL_TITLES, extractor, real, fake, distance=found.mean, deviation=found.deviation)


def _describe(
    titles: dict[FeatureName, str],
    extractor: FeatureExtractor,
    real: NDArray,
    fake: NDArray,
    *,
    distance: float,
    deviation: float | None = None,
    notes: tuple[str, ...] = (),
) -> FeatureDistance:
    return FeatureDistance(
        title=titles[cast(FeatureName, extractor.name)],
        distance=distance,
        deviation=deviation,
        features=extractor.name,
        weights_sha256=extractor.digest,
        resize_filter=extractor.resize_filter,
        num_features=real.shape[1],
        num_real=len(real),
        num_fake=len(fake),
        notes=notes,
    )
