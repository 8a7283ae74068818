"""The kernel distance between two sets of features.

Bińkowski et al. 2018, "Demystifying MMD GANs", section 4 (with features of Inception-v3: KID): the unbiased estimate of
the squared maximum mean discrepancy with the kernel `(x . y / D + 1)^3`, averaged over random subsets.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NUM_SUBSETS = 100
SUBSET_SIZE = 1000
"""As in the released code of StyleGAN2-ADA and its heirs."""


@dataclass(frozen=True)
class KernelDistance:
    """Mean and spread over subsets.

    Attributes:
        mean: the distance; unbiased, so equal sources give values around 0, also below.
        deviation: standard deviation over subsets; they overlap, so it is no error of the mean.
        subset_size: features of each side in a subset.
        num_subsets: subsets drawn.
    """

    mean: float
    deviation: float
    subset_size: int
    num_subsets: int


def squared_discrepancy(first: NDArray, second: NDArray) -> float:
    """Unbiased squared maximum mean discrepancy of features `[N, D]` and `[M, D]` under the cubic kernel."""
    if min(len(first), len(second)) < 2 or first.shape[1:] != second.shape[1:]:
        raise ValueError(f"expected [N, D] and [M, D] of at least 2, got {list(first.shape)} and {list(second.shape)}")
    first, second = first.astype(np.float64), second.astype(np.float64)
    inside = sum(_mean_of_pairs(values) for values in (first, second))
    return float(inside - 2 * _kernel(first, second).mean())


def kernel_distance(
    first: NDArray,
    second: NDArray,
    *,
    num_subsets: int = NUM_SUBSETS,
    subset_size: int = SUBSET_SIZE,
    random: np.random.Generator | None = None,
) -> KernelDistance:
    """The discrepancy, averaged over subsets drawn without replacement.

    Args:
        first: features `[N, D]`.
        second: features `[M, D]`.
        num_subsets: how often to draw; once where a subset holds everything.
        subset_size: of each side; at most N and M are taken.
        random: draws the subsets; the same ones every time if it is None.
    """
    random = np.random.default_rng(0) if random is None else random
    size = min(subset_size, len(first), len(second))
    num_subsets = 1 if size == len(first) == len(second) else num_subsets
    found = []
    for _ in range(num_subsets):
        parts = [values[random.choice(len(values), size, replace=False)] for values in (first, second)]
        found.append(squared_discrepancy(*parts))
    return KernelDistance(float(np.mean(found)), float(np.std(found)), size, num_subsets)


def _kernel(first: NDArray, second: NDArray) -> NDArray:
    return (first @ second.T / first.shape[1] + 1) ** 3


def _mean_of_pairs(values: NDArray) -> float:
    """Mean of the kernel over pairs of different members."""
    matrix, count = _kernel(values, values), len(values)
    return float((matrix.sum() - np.trace(matrix)) / (count * (count - 1)))
