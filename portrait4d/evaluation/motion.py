"""How a result's head moves beside the true or driving one, by the tracker; definitions in `definitions.py`."""

import numpy as np
import torch
from numpy.typing import NDArray

from flame.geometry.rotation import axis_angle_to_matrix
from flame.heads.head_model import HeadModel
from flame.landmarks.groups import NUM_MESH, outer_eye_distance
from portrait4d.metrics import control
from portrait4d.metrics.tracked import angle_degrees, turn_degrees

MOST_LAG = 8
"""Frames by which a result is moved at most."""

LEAST_CORRELATION = 0.2
"""Below it a result does not follow at all, and a lag would be that of noise."""

_FEWEST_FRAMES = 5


def keypoint_distances(result: NDArray, truth: NDArray) -> NDArray[np.float64]:
    """Mean distance `[T]` of the face's landmarks in the picture, over the truth's outer-eye distance; lower is better.

    Args:
        result: landmarks `[T, 478, 2 or 3]` in px of the picture.
        truth: those of the true frames, in px of pictures of the same size.
    """
    _check_lengths(result, truth)
    apart = np.linalg.norm(result[:, :NUM_MESH, :2].astype(np.float64) - truth[:, :NUM_MESH, :2], axis=-1).mean(-1)
    return apart / np.maximum(outer_eye_distance(truth), 1e-6)


def expression_differences(result: NDArray, truth: NDArray) -> NDArray[np.float64]:
    """Mean absolute difference `[T]` of expression weights `[T, E]`; lower is better."""
    _check_lengths(result, truth)
    return np.abs(result.astype(np.float64) - truth).mean(1)


def pose_differences(result: NDArray, truth: NDArray) -> NDArray[np.float64]:
    """Angle `[T]` in degrees, 0 to 180, between heads `[T, 3]` (axis-angle in camera space); lower is better."""
    _check_lengths(result, truth)
    turns = [axis_angle_to_matrix(torch.from_numpy(rotation).double()) for rotation in (result, truth)]
    return turn_degrees(*turns)


def gaze_differences(result: NDArray, truth: NDArray) -> NDArray[np.float64]:
    """Angle `[T]` in degrees between the directions of the eyes `[T, 2, 3]` (axis-angle in the head), mean of both."""
    _check_lengths(result, truth)
    gazes = [axis_angle_to_matrix(torch.from_numpy(eyes).double())[..., 2] for eyes in (result, truth)]
    return angle_degrees(*gazes).mean(1)


def motion_gain(result: NDArray, truth: NDArray) -> float | None:
    """How much of the truth's expression weights `[T, E]` a result's show, 1 all, 0 none; None if that is still."""
    _check_lengths(result, truth)
    changes = [(weights - weights.mean(0)).astype(np.float64)[None] for weights in (result, truth)]
    gain = control.motion_gain(*changes)[0] if len(truth) else np.nan
    return float(gain) if np.isfinite(gain) else None


def find_lag(result: NDArray, truth: NDArray, found: NDArray[np.bool_]) -> int | None:
    """Frames by which the result is late (> 0) or early (< 0); None if it does not follow the truth.

    Args:
        result: expression weights `[T, E]`.
        truth: those of the true or driving clip.
        found: `[T]` whether both were tracked.
    """
    _check_lengths(result, truth)
    best, best_lag = LEAST_CORRELATION, None
    most = min(MOST_LAG, max(len(truth) - 1, 0))
    for lag in sorted(range(-most, most + 1), key=abs):  # of equal ones the smallest
        late, early = slice(max(lag, 0), len(truth) + min(lag, 0)), slice(max(-lag, 0), len(truth) - max(lag, 0))
        both = found[late] & found[early]
        if both.sum() < _FEWEST_FRAMES:
            continue
        correlation = _correlation(result[late][both], truth[early][both])
        if correlation > best + 1e-9:
            best, best_lag = correlation, lag
    return best_lag


def face_shape_distance(result: NDArray, truth: NDArray, model: HeadModel) -> float:
    """Mean distance in mm of the face's landmarks of two shapes `[S]` at rest; lower is better."""
    points = []
    for shape in (result, truth):
        coefficients = torch.from_numpy(np.ascontiguousarray(shape)).to(model.template)[None]
        with torch.inference_mode():
            rest = model.shaped(coefficients, coefficients.new_zeros(1, model.num_expression))
            points.append(model.landmarks(rest)[0, :NUM_MESH].double())
    return float((points[0] - points[1]).norm(dim=-1).mean()) * 1000


def _correlation(first: NDArray, second: NDArray) -> float:
    """Correlation of two sets of signals `[T, E]`, all taken together; 0 if one stands still."""
    first, second = (values.astype(np.float64) - values.mean(0) for values in (first, second))
    length = np.sqrt(np.square(first).sum() * np.square(second).sum())
    return float((first * second).sum() / length) if length else 0.0


def _check_lengths(result: NDArray, truth: NDArray) -> None:
    if result.shape[:1] != truth.shape[:1] or result.shape[1:-1] != truth.shape[1:-1]:
        raise ValueError(f"expected as many frames in both, got {list(result.shape)} and {list(truth.shape)}")
