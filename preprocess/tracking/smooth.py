"""Smooths tracked motion without lag, by a bilateral filter over pairs of frames around each frame.

For every frame t and every lag k up to `LOOKAHEAD`, the value at t of the straight line through the frames t - k and
t + k is compared with the value at t. Where they agree to within a few times the tracker's noise they are averaged;
where they differ, the motion is real (the peak of a blink, the start of a word) and is kept. Hence constants and steady
movements are unchanged, nothing is delayed, and a frame depends on only `LOOKAHEAD` frames of the future.
"""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from flame.landmarks.groups import outer_eye_distance
from preprocess.tracking.motion import Motion

LOOKAHEAD = 4
"""Frames of the future that a smoothed frame depends on."""

END_TOLERANCE = 0.6
"""Factor on tolerances where a frame at either end of a clip is compared with frames of one side only."""

FRAMES_AT_ONCE = 64
"""Frames whose landmarks are smoothed in one step; limits the memory for long clips."""

POSE_SECONDS = 0.08
EXPRESSION_SECONDS = 0.05
"""Standard deviations of the filter over time."""

ROTATION_TOLERANCE = np.radians(0.7)
SIDEWAYS_TOLERANCE = 0.0012
DEPTH_TOLERANCE = 0.02
"""Metres. With a field of view of 12 degrees, depth is an order of magnitude less certain than position."""

FACE_CENTRE = np.array([0.0, 0.11, 0.12])
"""Metres in head axes. The tracker locates the face; the head's origin in the neck moves with every error of pitch, so
the position of the face is smoothed instead, beside the rotation."""

EXPRESSION_TOLERANCE = 0.03
JAW_TOLERANCE = np.radians(0.6)
EYE_TOLERANCE = np.radians(2.0)
EYE_OPEN_TOLERANCE = 0.012
LANDMARK_TOLERANCE = 0.006
"""Fraction of the outer-eye distance."""


def smooth_values(values: NDArray, seconds: NDArray[np.float64], *, tolerance: float, width_seconds: float) -> NDArray:
    """Smooths signals over time.

    Args:
        values: `[T, N]`, N separate signals, or `[T, N, D]`, N vectors each smoothed with one weight.
        seconds: `[T]` increasing.
        tolerance: differences well below it are noise, well above it motion (unit of the values); 0 = off.
        width_seconds: standard deviation of the filter over time.

    Returns:
        The smoothed signals, in the shape and dtype of `values`.
    """
    if tolerance <= 0 or len(values) < 2:
        return values.copy()
    signal = values.astype(np.float64)
    total = np.zeros_like(signal)
    weight_sum = np.ones(signal.shape[:2])
    for before, after, share, closeness, strictness in _pairs(seconds, width_seconds):
        share = share.reshape(-1, *[1] * (signal.ndim - 1))
        difference = signal[before] * (1 - share) + signal[after] * share - signal
        distance = np.abs(difference) if signal.ndim == 2 else np.linalg.norm(difference, axis=-1)
        weight = 2 * closeness[:, None] * np.exp(-0.5 * (strictness[:, None] * distance / tolerance) ** 2)
        weight_sum += weight
        total += difference * (weight if signal.ndim == 2 else weight[..., None])
    weight_sum = weight_sum if signal.ndim == 2 else weight_sum[..., None]
    return (signal + total / weight_sum).astype(values.dtype)


def smooth_rotations(
    rotvec: NDArray, seconds: NDArray[np.float64], *, tolerance_radians: float, width_seconds: float
) -> NDArray:
    """Smooths rotation vectors `[T, 3]` like `smooth_values`, in the tangent space of each frame's rotation."""
    if tolerance_radians <= 0 or len(rotvec) < 2:
        return rotvec.copy()
    rotation = Rotation.from_rotvec(rotvec.astype(np.float64))
    inverse = rotation.inv()
    total = np.zeros((len(rotvec), 3))
    weight_sum = np.ones(len(rotvec))
    for before, after, share, closeness, strictness in _pairs(seconds, width_seconds):
        to_before = (inverse * Rotation.from_rotvec(rotvec[before])).as_rotvec()
        to_after = (inverse * Rotation.from_rotvec(rotvec[after])).as_rotvec()
        difference = to_before * (1 - share[:, None]) + to_after * share[:, None]
        distance = np.linalg.norm(difference, axis=-1)
        weight = 2 * closeness * np.exp(-0.5 * (strictness * distance / tolerance_radians) ** 2)
        weight_sum += weight
        total += difference * weight[:, None]
    result = rotation * Rotation.from_rotvec(total / weight_sum[:, None])
    return result.as_rotvec().astype(rotvec.dtype)


def smooth_motion(motion: Motion, *, smooth: float = 1.0, predict: Callable[[Motion], NDArray] | None = None) -> Motion:
    """Smooths all tracks of a clip: the head's pose most, lids and lips least.

    Args:
        motion: T frames.
        smooth: factor on the tolerances; 0 = off, 1 = default.
        predict: computes the head model's landmarks `[T, 478, 2]` (crop px) of a motion. With it the smoothed landmarks
            follow the smoothed parameters, and only their residuals are smoothed as landmarks.

    Raises:
        ValueError: `smooth` is negative.
    """
    if smooth < 0:
        raise ValueError(f"smooth must not be negative, got {smooth}")
    if smooth == 0 or len(motion) < 2:
        return motion
    seconds = motion.seconds

    def values(array: NDArray, tolerance: float, width_seconds: float = EXPRESSION_SECONDS) -> NDArray:
        return smooth_values(array, seconds, tolerance=tolerance * smooth, width_seconds=width_seconds)

    rotation = smooth_rotations(
        motion.rotation, seconds, tolerance_radians=ROTATION_TOLERANCE * smooth, width_seconds=POSE_SECONDS
    )
    face = motion.translation + Rotation.from_rotvec(motion.rotation).apply(FACE_CENTRE)
    sideways = values(face[:, None, :2], SIDEWAYS_TOLERANCE, POSE_SECONDS)[:, 0]
    depth = values(face[:, 2:], DEPTH_TOLERANCE, POSE_SECONDS)
    translation = np.concatenate([sideways, depth], -1) - Rotation.from_rotvec(rotation).apply(FACE_CENTRE)
    result = dataclasses.replace(
        motion,
        rotation=rotation,
        translation=translation.astype(motion.translation.dtype),
        expression=values(motion.expression, EXPRESSION_TOLERANCE),
        jaw=values(motion.jaw[:, None], JAW_TOLERANCE)[:, 0],
        eyes=values(motion.eyes, EYE_TOLERANCE),
        eye_open=values(motion.eye_open, EYE_OPEN_TOLERANCE),
    )
    return dataclasses.replace(result, landmarks=_smooth_landmarks(motion, result, smooth=smooth, predict=predict))


def _smooth_landmarks(
    motion: Motion, result: Motion, *, smooth: float, predict: Callable[[Motion], NDArray] | None
) -> NDArray[np.float32]:
    """Returns smoothed landmarks `[T, 478, 3]` of a motion whose other tracks are smoothed in `result`.

    They are by far the largest part of a motion, so they are smoothed in blocks of frames, each together with the
    neighbours that it depends on: the result is the same, and the memory does not grow with the clip.
    """
    tolerance = smooth * LANDMARK_TOLERANCE * _outer_eye_distance(motion.landmarks)
    landmarks = np.empty(motion.landmarks.shape, np.float32)
    for start in range(0, len(motion), FRAMES_AT_ONCE):
        end = min(start + FRAMES_AT_ONCE, len(motion))
        first = max(start - LOOKAHEAD, 0)
        around = motion[first : end + LOOKAHEAD]
        kept = slice(start - first, end - first)

        def values(array: NDArray, tolerance: float, seconds: NDArray = around.seconds) -> NDArray:
            return smooth_values(array, seconds, tolerance=tolerance, width_seconds=EXPRESSION_SECONDS)

        in_picture = around.landmarks[..., :2]
        if predict is None:
            landmarks[start:end, :, :2] = values(in_picture, tolerance)[kept]
        else:
            unexplained = values(in_picture - predict(around), tolerance)[kept]
            landmarks[start:end, :, :2] = predict(result[start:end]) + unexplained
        landmarks[start:end, :, 2] = values(around.landmarks[..., 2], 2 * tolerance)[kept]
    return landmarks


def _pairs(seconds: NDArray[np.float64], width_seconds: float) -> Iterator[tuple[NDArray, ...]]:
    """Yields for each lag the pairs of frames and their weights, `[T]` each.

    These are the frames before and after, the share of the later one, the weight by nearness in time, and the factor on
    differences before they are compared with a tolerance. The share puts the line through both at the time of the
    frame. At the ends of the clip the frame on the other side replaces the missing one of a pair, with a lower
    tolerance: a movement would pull the first frame after it, and a head's position and landmarks are relative to the
    first frame.
    """
    frames = np.arange(len(seconds))
    for lag in range(1, min(LOOKAHEAD, len(seconds) - 1) + 1):
        before, after = frames - lag, frames + lag
        is_mirrored = (before < 0) | (after >= len(frames))
        before = np.where(before < 0, after, before)
        after = np.where(after >= len(frames), before, after)
        inside = (before < len(frames)) & (after >= 0)
        before, after = before.clip(0, len(frames) - 1), after.clip(0, len(frames) - 1)
        to_before, to_after = np.abs(seconds - seconds[before]), np.abs(seconds[after] - seconds)
        span = to_before + to_after
        share = np.where(before == after, 0.5, to_before / np.where(span > 0, span, 1))
        closeness = np.exp(-0.25 * (to_before**2 + to_after**2) / width_seconds**2)
        strictness = np.where(is_mirrored, 1 / END_TOLERANCE, 1.0)
        yield before, after, share, np.where(inside, closeness, 0.0), strictness


def _outer_eye_distance(landmarks: NDArray) -> float:
    """Returns the median over the clip, crop px."""
    return float(np.median(outer_eye_distance(landmarks)))
