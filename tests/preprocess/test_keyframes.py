"""Curves through keyframes: hit each key, stay between neighbours, begin and end at rest; motions made of them."""

import numpy as np
import pytest

from flame.errors import InputError
from preprocess.tracking.keyframes import values_between
from preprocess.tracking.motion import Motion

SECONDS = [0.2, 0.5, 0.52, 1.4, 3.0]
VALUES = np.array([[0.0, 5.0], [0.8, -10.0], [0.7, 12.0], [0.7, 12.5], [-0.3, 0.0]])
FINE = np.linspace(-1, 4, 5001)


def test_every_key_is_hit_exactly() -> None:
    np.testing.assert_array_equal(values_between(SECONDS, VALUES, np.array(SECONDS)), VALUES)


def test_nothing_leaves_the_range_of_the_two_keys_beside_it() -> None:
    found = values_between(SECONDS, VALUES, FINE)
    for place, (begin, end) in enumerate(zip(SECONDS, SECONDS[1:], strict=False)):
        between = found[(begin <= FINE) & (end >= FINE)]
        low, high = np.sort(VALUES[place : place + 2], axis=0)
        assert (between >= low - 1e-12).all() and (between <= high + 1e-12).all()
        steps = np.diff(between, axis=0) * np.sign(VALUES[place + 1] - VALUES[place])
        assert (steps >= -1e-12).all()  # monotone


def test_equal_keys_hold_and_so_does_what_is_outside() -> None:
    found = values_between(SECONDS, VALUES, np.array([-5.0, 0.0, 0.6, 1.1, 3.1, 99.0]))
    np.testing.assert_array_equal(found[:2], VALUES[[0, 0]])
    np.testing.assert_allclose(found[2:4, 0], 0.7, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(found[4:], VALUES[[4, 4]])
    np.testing.assert_array_equal(values_between([1.0], VALUES[:1], FINE), np.tile(VALUES[0], (len(FINE), 1)))


def test_velocity_is_continuous_and_zero_at_both_ends() -> None:
    fine = np.linspace(-1, 4, 500_001)
    speed = np.diff(values_between(SECONDS, VALUES, fine), axis=0) / np.diff(fine)[:, None]
    assert np.abs(np.diff(speed, axis=0)).max() < 0.01 * np.abs(speed).max()  # a corner is a jump of the whole
    for end in (SECONDS[0], SECONDS[-1]):
        assert np.abs(speed[np.searchsorted(fine, end)]).max() < 0.01 * np.abs(speed).max()


def test_a_straight_line_of_keys_is_straight_inside() -> None:
    times = np.arange(6.0)
    moments = np.linspace(1, 4, 50)  # the outer stretches ease in and out
    np.testing.assert_allclose(values_between(list(times), 2 * times[:, None], moments)[:, 0], 2 * moments)


def test_time_and_values_may_be_stretched() -> None:
    plain = values_between(SECONDS, VALUES, FINE)
    stretched = values_between([3 * second for second in SECONDS], -2 * VALUES, 3 * FINE)
    np.testing.assert_allclose(stretched, -2 * plain, atol=1e-9)


def test_a_motion_passes_through_its_poses() -> None:
    poses = {0: {}, 0.4: {"smile": 0.8, "yaw_degrees": 10, "gaze": (0.5, -0.2)}, 1: {"mouthSmileLeft": 0.3}}
    motion = Motion.from_keyframes(poses, frame_rate=25)
    assert len(motion) == 26 and motion.frame_rate == 25
    left, right = motion.values("mouthSmileLeft"), motion.values("mouthSmileRight")
    np.testing.assert_allclose(left[[0, 10, 25]], [0, 0.8, 0.3], atol=1e-6)
    np.testing.assert_allclose(right[[0, 10, 25]], [0, 0.8, 0], atol=1e-6)
    assert 0 < left[5] < 0.8 and left.max() <= 0.8 + 1e-6 and (np.diff(left[:11]) >= 0).all()
    np.testing.assert_allclose(motion.values("yaw_degrees")[[0, 10, 25]], [0, 10, 0], atol=1e-4)
    np.testing.assert_allclose(motion.values("gaze")[[10, 25]], [[0.5, -0.2], [0, 0]], atol=1e-6)
    assert motion.neutral is not None and not motion.neutral.expression.any()
    first, only = motion[:1], Motion.from_arkit({})
    np.testing.assert_allclose(first.landmarks, only.landmarks, atol=1e-4)


def test_a_duration_holds_the_last_pose() -> None:
    motion = Motion.from_keyframes({0.5: {"jawOpen": 0.6}}, frame_rate=30, duration_seconds=2)
    assert len(motion) == 60
    np.testing.assert_allclose(motion.values("jawOpen"), 0.6, atol=1e-6)


@pytest.mark.parametrize(
    ("keyframes", "options", "reason"),
    [
        ({}, {}, "at least one keyframe"),
        ({-1: {}}, {}, "seconds of a keyframe from 0"),
        ({float("nan"): {}}, {}, "seconds of a keyframe from 0"),
        ({0: {"smile": 2}}, {}, "smile as a number from 0 to 1"),
        ({0: {"grin": 1}}, {}, "did you mean"),
        ({0: {"gaze": (0, 1)}, 1: {"eyeLookUpLeft": 1}}, {}, "gaze or eyeLook"),
        ({2: {}}, {"duration_seconds": 1}, "duration_seconds from the last keyframe, 2"),
        ({2: {}}, {"duration_seconds": 1e9}, "duration_seconds from the last keyframe, 2"),
        ({0: {}}, {"frame_rate": 0}, "at a rate from"),
    ],
)
def test_what_is_no_line_is_refused(keyframes: dict, options: dict, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        Motion.from_keyframes(keyframes, **options)
