"""Decides how often to show each picture, so that frontal heads do not outnumber turned ones too far.

The rule is that of EG3D (Chan et al. 2022, supplement): nine even bins of yaw, the outer bins repeated. The counts in
the released lists are powers of two from 1 to 16, rarer as they grow, which fits one power per bin from the middle. The
width of their bins is not published; 20 degrees is our choice, so that nine bins cover the half circle.
"""

import numpy as np
from numpy.typing import NDArray

NUM_BINS = 9
BIN_DEGREES = 20.0


def yaw_degrees(labels: NDArray) -> NDArray[np.float64]:
    """Returns the public yaw `[N]` of camera labels `[N, 25]`, > 0 where the nose points to the viewer's right."""
    cam2world = np.asarray(labels, np.float64)[:, :16].reshape(-1, 4, 4)
    nose_in_camera = cam2world[:, 2, :3]  # the world's +z
    return np.degrees(np.arctan2(nose_in_camera[:, 0], nose_in_camera[:, 2]))


def replica_counts(yaw: NDArray) -> NDArray[np.int64]:
    """Returns how many times to show each picture: `2 ** |bin - 4|` with `bin = floor((yaw + 90) / 20)` in 0 ... 8.

    Args:
        yaw: `[N]` degrees; the outermost bins also take yaws beyond 90. Boundaries belong to the outer bin on both
            sides, so that a picture and its mirror image count alike.
    """
    steps = np.floor(np.abs(np.asarray(yaw, np.float64)) / BIN_DEGREES + 0.5)
    return 2 ** np.minimum(steps, NUM_BINS // 2).astype(np.int64)
