"""Picks the 68 points of iBUG, and 70 with the pupils, from the landmark sets of trackers."""

import numpy as np
from numpy.typing import NDArray

from flame.landmarks.sets import IBUG_OF_98, IBUG_OF_478, PUPILS_OF_98, PUPILS_OF_478


def to_68(points: NDArray) -> NDArray:
    """Returns landmarks of iBUG `[..., 68, D]`, the subject's right first.

    The tracker's contour lies on the skin, not on the outline in the picture: on a turned head the two differ.

    Args:
        points: `[..., 478, D]` of the tracker, `[..., 98, D]` of WFLW, or 68 or 70 points of iBUG.

    Raises:
        ValueError: another number of points.
    """
    return to_70(points)[..., :68, :] if points.shape[-2] != 68 else points


def to_70(points: NDArray) -> NDArray:
    """Returns landmarks of iBUG and the two pupils `[..., 70, D]`, the subject's right first.

    Args:
        points: `[..., 478, D]` of the tracker, `[..., 98, D]` of WFLW, or 70 already.

    Raises:
        ValueError: another number of points.
    """
    tables = {478: IBUG_OF_478 + PUPILS_OF_478, 98: IBUG_OF_98 + PUPILS_OF_98, 70: tuple(range(70))}
    count = points.shape[-2]
    if count not in tables:
        raise ValueError(f"expected landmarks [..., 478, D], [..., 98, D] or [..., 70, D], got {list(points.shape)}")
    return points[..., np.array(tables[count]), :]
