"""A yaw sweep: an avatar turned to fixed angles, and whether the views show these turns, a face, and the person."""

import numpy as np
import torch
from numpy.typing import NDArray

from flame.errors import InputError
from flame.geometry.rotation import axis_angle_to_matrix, matrix_to_euler_degrees
from portrait4d.evaluation.identity import FaceVectors
from portrait4d.evaluation.tracks import MeasuringTracker

SWEEP_YAW_DEGREES = (-30.0, -20.0, -10.0, 10.0, 20.0, 30.0)
"""From the camera; > 0 nose to the viewer's right."""

NO_VIEWS = "needs an engine: results of other programs show no asked views"
NO_FACE_IN_VIEWS = "no face found in any view"


def score_sweep(
    views: NDArray[np.uint8],
    tracker: MeasuringTracker,
    *,
    identity: FaceVectors | None = None,
    source_vector: NDArray[np.float64] | None = None,
) -> dict[str, float | None]:
    """Measures the views of a sweep; definitions in `definitions.py`.

    Args:
        views: `[V, H, W, 3]`, one for each of `SWEEP_YAW_DEGREES`.
        tracker: fits the heads.
        identity: the network of identity; None if there is none.
        source_vector: unit vector `[D]` of the source picture, with `identity`.

    Returns:
        `yaw_lost` in percent, `yaw_error` in degrees (None without any face) and `yaw_identity` (None without network).

    Raises:
        ValueError: there are more or fewer views.
    """
    if len(views) != len(SWEEP_YAW_DEGREES):
        raise ValueError(f"expected {len(SWEEP_YAW_DEGREES)} views [V, H, W, 3], got {len(views)}")
    errors, cosines = [], []
    for view, asked in zip(views, SWEEP_YAW_DEGREES, strict=True):
        try:
            tracked = tracker.track_image(view)
        except InputError:  # no face, which is a result
            cosines.append(0.0)
            continue
        seen = matrix_to_euler_degrees(axis_angle_to_matrix(torch.from_numpy(tracked.motion.rotation)))[0]
        errors.append(abs(float(seen[0]) - asked))
        vector = None if identity is None else identity(view, tracked.landmarks.points)
        cosines.append(0.0 if vector is None or source_vector is None else float(source_vector @ vector))
    return {
        "yaw_lost": 100 * (1 - len(errors) / len(views)),
        "yaw_error": float(np.mean(errors)) if errors else None,
        "yaw_identity": None if identity is None else float(np.mean(cosines)),
    }
