"""What trembles in a clip: the landmarks' paths, and the brightness of the face; definitions in `definitions.py`."""

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.signal import savgol_filter

from flame.landmarks.groups import EYE_CORNERS, NOSE, NUM_MESH, outer_eye_distance
from preprocess.faces.alignment import fit_similarity

WINDOW = 5
"""Frames of the quadratic fit."""

SIDE = 128
"""Of the square that faces are carried to, px."""

_EYE_SHARE = 0.45
"""Outer-eye distance in the square, as a share of its side."""

_STILL = (*EYE_CORNERS["right"], *EYE_CORNERS["left"], *NOSE)
"""Points that keep their place in the head whatever it says."""


def jitter(landmarks: NDArray, found: NDArray[np.bool_]) -> float | None:
    """Root mean square of the quick part of the landmarks' paths, in 1/1000 outer-eye distance; lower is steadier.

    Args:
        landmarks: `[T, 478, 2 or 3]` in px.
        found: `[T]` whether they were measured in the frame.

    Returns:
        None where no 5 successive frames show a face.
    """
    left = []
    for run in _runs(found, WINDOW):
        paths = landmarks[run, :NUM_MESH, :2].astype(np.float64)
        quick = paths - np.asarray(savgol_filter(paths, WINDOW, 2, axis=0))
        half = WINDOW // 2
        left.append(np.square(quick[half : len(paths) - half]).sum(-1))
    if not left:
        return None
    unit = float(np.median(outer_eye_distance(landmarks[found])))
    return 1000 * float(np.sqrt(np.concatenate(left).mean())) / max(unit, 1e-6)


def flicker(frames: NDArray[np.uint8], landmarks: NDArray, found: NDArray[np.bool_]) -> float | None:
    """Mean second difference in time of the luma of aligned faces, in levels of 255; lower is steadier.

    Args:
        frames: `[T, H, W, 3]`.
        landmarks: `[T, 478, 2 or 3]` in px of the frames.
        found: `[T]` whether they were measured in the frame.

    Returns:
        None where no 3 successive frames show a face.
    """
    still = landmarks[:, _STILL, :2].astype(np.float64)
    runs = list(_runs(found, 3))
    if not runs:
        return None
    target = _target(landmarks[found])
    sums, count = 0.0, 0
    for run in runs:
        last: list[NDArray] = []
        for index in range(run.start, run.stop):
            last = [*last[-2:], _aligned_luma(frames[index], fit_similarity(still[index], target))]
            if len(last) == 3:
                sums += float(np.abs(last[0] - 2 * last[1] + last[2]).mean())
                count += 1
    return sums / count


def _target(landmarks: NDArray) -> NDArray[np.float64]:
    """Places of the still points in the square: the clip's mean face, centred."""
    mean = landmarks[:, _STILL, :2].astype(np.float64).mean(0)
    scale = _EYE_SHARE * SIDE / max(float(np.median(outer_eye_distance(landmarks))), 1e-6)
    return (mean - mean.mean(0)) * scale + SIDE / 2


def _aligned_luma(frame: NDArray[np.uint8], matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    shifted = matrix.copy()
    shifted[:, 2] += matrix[:, :2].sum(1) / 2 - 0.5  # OpenCV counts from the centre of the first pixel
    face = cv2.warpAffine(np.ascontiguousarray(frame), shifted, (SIDE, SIDE), flags=cv2.INTER_LINEAR)
    luma = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return cv2.GaussianBlur(luma, (0, 0), 1.0).astype(np.float32)


def _runs(found: NDArray[np.bool_], least: int) -> Iterator[slice]:
    """Stretches of at least so many successive frames with a face."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], found.astype(np.int8), [0]])))
    for begin, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if end - begin >= least:
            yield slice(begin, end)
