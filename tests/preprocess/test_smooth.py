"""Smoothing: unit gain at rest, no lag, blinks kept, jitter down."""

import dataclasses
import tracemalloc

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from motions import make_motion
from preprocess.tracking import smooth
from preprocess.tracking.motion import Motion
from preprocess.tracking.smooth import LOOKAHEAD, smooth_motion, smooth_rotations, smooth_values

SECONDS = np.arange(100) / 25
EXPRESSION = {"tolerance": smooth.EXPRESSION_TOLERANCE, "width_seconds": smooth.EXPRESSION_SECONDS}


def test_constant_passes_exactly() -> None:
    values = np.full((30, 2), 0.37)
    np.testing.assert_allclose(smooth_values(values, SECONDS[:30], **EXPRESSION), values, atol=1e-15)


@pytest.mark.parametrize("uneven", [False, True])
def test_steady_movement_passes_exactly(uneven: bool) -> None:
    seconds = SECONDS + (0.01 * np.sin(np.arange(100)) if uneven else 0)
    ramp = 2.0 * seconds[:, None] - 1
    result = smooth_values(ramp, seconds, **EXPRESSION)
    np.testing.assert_allclose(result[LOOKAHEAD:-LOOKAHEAD], ramp[LOOKAHEAD:-LOOKAHEAD], atol=1e-12)


@pytest.mark.parametrize("shape", [(0.5, 1, 0.5), (1, 1, 1), (0.3, 1, 0.6)])
def test_blink_survives(shape: tuple[float, ...]) -> None:
    """Three frames: at least 90 % of the height is kept, and it stays where it was."""
    values = np.zeros((41, 1))
    values[19:22, 0] = shape
    values += np.random.default_rng(0).normal(0, 0.01, values.shape)
    result = smooth_values(values, SECONDS[:41], **EXPRESSION)
    assert result.max() >= 0.9

    def middle(signal: np.ndarray) -> float:
        return float((signal[15:26, 0] * np.arange(15, 26)).sum() / signal[15:26, 0].sum())

    assert abs(middle(result) - middle(values)) <= 0.2


def test_fast_speech_is_not_delayed_or_flattened() -> None:
    """5 Hz, faster than syllables: amplitude above 90 %, delay below a tenth of a frame."""
    signal = 0.3 + 0.25 * np.sin(2 * np.pi * 5 * SECONDS)
    result = smooth_values(signal[:, None], SECONDS, **EXPRESSION)[:, 0]
    basis = np.exp(-2j * np.pi * 5 * SECONDS[10:-10])
    gain = (result[10:-10] @ basis) / (signal[10:-10] @ basis)
    assert abs(gain) > 0.9
    assert abs(np.angle(gain)) / (2 * np.pi * 5) * 25 < 0.1


def test_jitter_of_a_still_face_is_halved() -> None:
    random = np.random.default_rng(1)
    noise = random.normal(0, 0.02, (400, 3))
    seconds = np.arange(400) / 25
    result = smooth_values(noise, seconds, **EXPRESSION)
    assert np.diff(result, axis=0).std() < np.diff(noise, axis=0).std() / 2
    turns = random.normal(0, np.radians(0.25), (400, 3)) + np.array([0, 3.0, 0])  # near half a turn: no wrapping
    pose = {"tolerance_radians": smooth.ROTATION_TOLERANCE, "width_seconds": smooth.POSE_SECONDS}
    smoothed = smooth_rotations(turns, seconds, **pose)

    def shake(rotvec: np.ndarray) -> float:
        rotation = Rotation.from_rotvec(rotvec)
        return float((rotation[:-1].inv() * rotation[1:]).magnitude().mean())

    assert shake(smoothed) < shake(turns) / 2


def test_the_first_frame_is_not_pulled_after_a_movement() -> None:
    """It is what a head's place is counted from; half a tolerance a frame moved it by more than half of that."""
    ramp = 0.5 * EXPRESSION["tolerance"] * np.arange(30)[:, None]
    result = smooth_values(ramp, SECONDS[:30], **EXPRESSION)
    assert abs(result[0, 0]) < 0.35 * EXPRESSION["tolerance"]
    still = np.random.default_rng(4).normal(0, 0.2 * EXPRESSION["tolerance"], (30, 500))
    assert smooth_values(still, SECONDS[:30], **EXPRESSION)[0].std() < 0.85 * still[0].std()


def test_rotation_at_constant_speed_passes_exactly() -> None:
    start = Rotation.from_rotvec([0.3, -0.2, 0.9])
    path = (start * Rotation.from_rotvec(np.outer(SECONDS, [0.1, 1.5, -0.4]))).as_rotvec()
    result = smooth_rotations(path, SECONDS, tolerance_radians=0.01, width_seconds=0.08)
    error = (Rotation.from_rotvec(path).inv() * Rotation.from_rotvec(result)).magnitude()
    assert error[LOOKAHEAD:-LOOKAHEAD].max() < 1e-9


def test_only_bounded_future_matters() -> None:
    random = np.random.default_rng(2)
    values = random.normal(0, 0.02, (50, 1))
    other = values.copy()
    other[30 + LOOKAHEAD + 1 :] += 0.01
    first, second = (smooth_values(item, SECONDS[:50], **EXPRESSION) for item in (values, other))
    np.testing.assert_array_equal(first[:31], second[:31])


def _shaken() -> Motion:
    random = np.random.default_rng(3)
    motion = make_motion(60)
    return dataclasses.replace(
        motion,
        expression=(motion.expression + random.normal(0, 0.01, motion.expression.shape)).astype(np.float32),
        landmarks=(motion.landmarks + random.normal(0, 0.3, motion.landmarks.shape)).astype(np.float32),
    )


def test_zero_is_off_and_more_is_smoother() -> None:
    motion = _shaken()
    assert smooth_motion(motion, smooth=0) is motion
    shakes = [np.diff(smooth_motion(motion, smooth=knob).expression, axis=0).std() for knob in (0.0, 0.3, 1.0, 3.0)]
    assert all(later < earlier for earlier, later in zip(shakes, shakes[1:], strict=False))
    with pytest.raises(ValueError, match="smooth"):
        smooth_motion(motion, smooth=-1)


def test_landmarks_follow_the_smoothed_parameters() -> None:
    """Where the model explains the landmarks, they are its prediction for the smoothed parameters."""

    def predict(motion: Motion) -> np.ndarray:
        return np.repeat(motion.expression[:, :1, None] * 100, 478, axis=1) + np.array([0, 1], np.float32)

    motion = _shaken()
    landmarks = np.concatenate([predict(motion) + 5, motion.landmarks[..., 2:]], -1)
    motion = dataclasses.replace(motion, landmarks=landmarks.astype(np.float32))
    result = smooth_motion(motion, predict=predict)
    np.testing.assert_allclose(result.landmarks[..., :2], predict(result) + 5, atol=1e-4)


@pytest.mark.parametrize("count", [1, 3, 7, 23])
def test_stretches_of_a_clip_are_smoothed_as_the_whole(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    motion = _shaken()[:count]

    def predict(part: Motion) -> np.ndarray:
        return np.repeat(100 * part.translation[:, None, :2], 478, 1)

    for function in (None, predict):
        whole = smooth_motion(motion, predict=function)
        with monkeypatch.context() as patch:
            patch.setattr(smooth, "FRAMES_AT_ONCE", 5)
            parts = smooth_motion(motion, predict=function)
        np.testing.assert_allclose(parts.landmarks, whole.landmarks, atol=1e-4)


def test_memory_for_smoothing_is_little_more_than_the_result() -> None:
    motion = make_motion(1000)
    tracemalloc.start()
    result = smooth_motion(motion, predict=lambda part: part.landmarks[..., :2] + 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * result.landmarks.nbytes, f"{peak / result.landmarks.nbytes:.1f} times the landmarks"
