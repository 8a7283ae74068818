"""The filter of live points: steady ones stop trembling, jumps hardly lag, time counts and not frames."""

import numpy as np
import pytest

from preprocess.tracking.one_euro import OneEuro

RATE = 25.0
UNIT = 100.0


def run(points: np.ndarray, rate: float = RATE) -> np.ndarray:
    steady = OneEuro()
    return np.stack([steady(frame, index / rate, unit=UNIT) for index, frame in enumerate(points)])


def test_the_first_frame_and_constants_pass_unchanged() -> None:
    points = np.repeat(np.random.default_rng(0).uniform(0, 500, (1, 7, 3)), 20, axis=0)
    assert np.abs(run(points) - points).max() < 1e-4


def test_noise_of_points_that_stand_still_is_more_than_halved_in_power() -> None:
    noise = np.random.default_rng(1).normal(0, 0.003 * UNIT, (400, 50, 2))
    assert run(noise)[20:].var() < 0.5 * noise[20:].var()


def test_a_jump_is_followed_within_two_frames() -> None:
    points = np.zeros((10, 1, 2))
    points[5:] = 0.3 * UNIT
    assert run(points)[6, 0, 0] > 0.8 * 0.3 * UNIT
    assert run(points)[4, 0, 0] == 0


def test_a_point_moves_alone() -> None:
    points = np.zeros((10, 2, 2))
    points[5:, 0] = 30.0
    assert np.abs(run(points)[:, 1]).max() == 0


def test_a_frame_of_no_later_time_changes_nothing_but_a_reset_does() -> None:
    steady = OneEuro()
    first = steady(np.zeros((1, 2)), 1.0, unit=UNIT)
    assert np.array_equal(steady(np.full((1, 2), 9.0), 1.0, unit=UNIT), first)
    steady.reset()
    assert steady(np.full((1, 2), 9.0), 0.5, unit=UNIT) == pytest.approx(np.full((1, 2), 9.0))
