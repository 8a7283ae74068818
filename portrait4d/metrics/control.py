"""Whether a parameter moves a picture as it should: gain and direction of the change, order of what is measured.

PSNR passes a model that ignores the driver; these do not. Both the gain and the direction, or the gain and the rank
correlation, belong beside it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata


@dataclass(frozen=True)
class ControlScore:
    """How pictures follow one parameter; means over identities whose truth changes.

    Attributes:
        gain: 1 where the prediction changes as the truth does, 0 where it ignores the parameter.
        gain_deviation: standard deviation of the gain over identities.
        direction: cosine of both changes in [-1, 1]; a gain of 1 with a small cosine is a large, wrong change.
        num_identities: how many had a change to follow.
    """

    gain: float
    gain_deviation: float
    direction: float
    num_identities: int


def picture_change(before: NDArray, after: NDArray) -> NDArray[np.float64]:
    """The change of pictures `[N, ...]` of any number type; uint8 does not wrap around."""
    if before.shape != after.shape:
        raise ValueError(f"expected pictures of one shape, got {list(before.shape)} and {list(after.shape)}")
    return after.astype(np.float64) - before.astype(np.float64)


def motion_gain(predicted: NDArray, true: NDArray, *, weight: NDArray | None = None) -> NDArray[np.float64]:
    """Projection of each predicted change on the true one: `sum(dp dt) / sum(dt dt)`.

    Args:
        predicted: changes `[N, ...]` of the prediction, one identity a row, see `picture_change`.
        true: changes of the truth for the same change of the parameter.
        weight: `[N, ...]`, broadcast to the changes: a mask of the face, or more for mouth and eyes. Default: 1.

    Returns:
        `[N]`; NaN where the truth does not change.
    """
    cross, own = _inner(predicted, true, weight), _inner(true, true, weight)
    return np.divide(cross, own, out=np.full(len(own), np.nan), where=own > 0)


def change_direction(predicted: NDArray, true: NDArray, *, weight: NDArray | None = None) -> NDArray[np.float64]:
    """Cosine `[N]` of predicted and true changes; 0 where the prediction does not change, NaN where the truth does not.

    The arguments are those of `motion_gain`.
    """
    cross, own = _inner(predicted, true, weight), _inner(true, true, weight)
    length = np.sqrt(own * _inner(predicted, predicted, weight))
    cosine = np.divide(cross, length, out=np.zeros(len(own)), where=length > 0)
    return np.where(own > 0, cosine, np.nan)


def score_control(predicted: NDArray, true: NDArray, *, weight: NDArray | None = None) -> ControlScore:
    """Gain and direction over identities; the arguments are those of `motion_gain`.

    Raises:
        ValueError: the truth changes for no identity.
    """
    gain = motion_gain(predicted, true, weight=weight)
    direction = change_direction(predicted, true, weight=weight)
    counted = np.isfinite(gain)
    if not counted.any():
        raise ValueError(f"the truth changes for none of {len(gain)} identities: expected a parameter that moves it")
    return ControlScore(
        gain=float(gain[counted].mean()),
        gain_deviation=float(gain[counted].std()),
        direction=float(direction[counted].mean()),
        num_identities=int(counted.sum()),
    )


def rank_correlation(measured: ArrayLike, known: ArrayLike) -> float:
    """Spearman's correlation of values measured in pictures `[N]` with the known parameters `[N]`, ties shared.

    Measures that are all equal give 0: such pictures ignore the parameter.

    Raises:
        ValueError: the shapes differ, a value is not finite, or the known values are all equal.
    """
    ranks = []
    for values in (np.asarray(measured, np.float64), np.asarray(known, np.float64)):
        if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
            raise ValueError(f"expected at least 2 finite values [N], got {list(values.shape)}")
        ranked = rankdata(values)
        ranks.append(ranked - ranked.mean())
    if len(ranks[0]) != len(ranks[1]) or not ranks[1].any():
        raise ValueError("expected as many known values as measured ones, and not all equal")
    length = np.sqrt(np.square(ranks[0]).sum() * np.square(ranks[1]).sum())
    return float((ranks[0] * ranks[1]).sum() / length) if length else 0.0


def _inner(first: NDArray, second: NDArray, weight: NDArray | None) -> NDArray[np.float64]:
    """Weighted inner products `[N]`."""
    if first.shape != second.shape or first.ndim < 2:
        raise ValueError(f"expected changes of one shape [N, ...], got {list(first.shape)} and {list(second.shape)}")
    product = first.astype(np.float64) * second
    if weight is not None:
        product = product * weight
    return product.reshape(len(product), -1).sum(1)
