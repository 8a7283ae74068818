"""Smaller copies of pictures."""

import cv2
import numpy as np
from numpy.typing import NDArray


def shrink_square(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """A square picture or mask `[S, S]` or `[S, S, C]` of `side` pixels, each the mean of those that it covers."""
    picture = np.ascontiguousarray(picture)
    if len(picture) == side:
        return picture
    return np.asarray(cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
