"""Behind and around the head: the matte, the layers it makes of a photo, and the wall that is completed."""

import cv2
import numpy as np
import pytest

from portrait4d.engines.lift.canvas import fill, split_canvas
from portrait4d.engines.lift.matte import keep_component, solve_matte
from portrait4d.engines.lift.patches import complete

SIDE = 320


def _disc(radius: float) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE]
    return np.hypot(x - SIDE / 2, y - SIDE / 2) < radius


def _stripes(period: int = 16) -> np.ndarray:
    """A wall of vertical stripes, red and white."""
    white = np.broadcast_to((np.arange(SIDE) // (period // 2)) % 2, (SIDE, SIDE)).astype(np.float32)
    return np.stack([0.9 + 0 * white, 0.2 + 0.7 * white, 0.2 + 0.7 * white], -1).astype(np.float32)


def test_stripes_go_on_behind_the_person():
    wall, hole = _stripes(), _disc(60)
    shown = np.where(hole[..., None], np.float32(0.1), wall)
    smooth = fill(shown, ~hole)
    done = complete(shown, ~hole, hole, smooth)
    assert np.array_equal(done[~hole], shown[~hole])
    rim = hole & ~_disc(30)
    assert np.abs(done - wall)[rim].mean() < 0.25 * np.abs(smooth - wall)[rim].mean()


def test_a_wall_without_a_pattern_stays_without_one_and_nothing_known_is_left_alone():
    wall, hole = np.full((SIDE, SIDE, 3), 0.4, np.float32), _disc(60)
    assert np.abs(complete(wall, ~hole, hole, wall) - 0.4).max() < 1e-5
    assert np.array_equal(complete(wall, ~np.ones_like(hole), hole, wall), wall)


def _photo(wall: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    dark = np.array([0.15, 0.1, 0.08], np.float32)
    return alpha[..., None] * dark + (1 - alpha[..., None]) * wall


def test_hairs_on_a_plain_wall_are_in_the_matte():
    alpha = _disc(70).astype(np.float32)
    for angle in np.linspace(0, 2 * np.pi, 24, endpoint=False):
        start, end = (
            (round(SIDE / 2 + radius * np.cos(angle)), round(SIDE / 2 + radius * np.sin(angle))) for radius in (68, 82)
        )
        cv2.line(alpha, start, end, 1.0, 2, cv2.LINE_AA)
    alpha = np.clip(alpha, 0, 1)
    coarse = cv2.GaussianBlur(_disc(72).astype(np.float32), (0, 0), 5)
    photo = _photo(np.full((SIDE, SIDE, 3), 0.7, np.float32), alpha)
    photo = photo + np.random.default_rng(0).normal(0, 0.01, photo.shape).astype(np.float32)
    found = solve_matte(photo, coarse, np.zeros_like(alpha, bool))
    ring = _disc(84) & ~_disc(66)
    assert np.abs(found - alpha)[ring].mean() < 0.4 * np.abs(coarse - alpha)[ring].mean()
    assert found[_disc(50)].min() > 0.98 and found[~_disc(110)].max() < 0.02


def test_an_ear_that_the_network_missed_is_kept_by_the_fitted_head():
    alpha = np.maximum(_disc(60), _disc(90) & (np.abs(np.mgrid[:SIDE, :SIDE][0] - SIDE / 2) < 20)).astype(np.float32)
    coarse = cv2.GaussianBlur(_disc(60).astype(np.float32), (0, 0), 3)
    photo = _photo(_stripes(40), alpha)
    found = solve_matte(photo, coarse, alpha > 0.5)
    assert (
        found[SIDE // 2, SIDE // 2 + 78] > 0.9 > 0.5 > solve_matte(photo, coarse, alpha > 2)[SIDE // 2, SIDE // 2 + 78]
    )


@pytest.mark.parametrize("wrong", [0.0, 0.15])
def test_layers_give_the_photo_and_a_pattern_stays_on_the_wall(wrong):
    alpha = cv2.GaussianBlur(_disc(70).astype(np.float32), (0, 0), 1)
    photo = _photo(_stripes(), alpha)
    matte = np.maximum(alpha, wrong * _disc(78)).astype(np.float32)  # smoke around the hair
    canvas = split_canvas(photo, matte < 0.2, matte)
    together = canvas.person + (1 - matte[..., None]) * canvas.background
    assert np.abs(together - photo).max() < 1e-5
    smoke = _disc(77) & ~_disc(74)
    assert np.abs(canvas.background - photo)[smoke].mean() < 0.1


def test_wisps_outside_the_matte_go_along_on_a_plain_wall():
    alpha = _disc(70).astype(np.float32)
    wisp = alpha.copy()
    cv2.line(wisp, (SIDE // 2, SIDE // 2), (SIDE // 2 + 75, SIDE // 2), 1.0, 3)
    photo = _photo(np.full((SIDE, SIDE, 3), 0.7, np.float32), wisp)
    canvas = split_canvas(photo, alpha < 0.2, alpha)
    place = (SIDE // 2, SIDE // 2 + 73)
    assert np.abs(canvas.background[place] - 0.7).max() < 0.15  # of 0.55: no hair is left behind
    assert np.abs(canvas.person + (1 - alpha[..., None]) * canvas.background - photo).max() < 1e-5


def test_another_person_is_dropped_from_a_matte():
    two = np.zeros((64, 64), np.float32)
    two[10:30, 10:30] = two[40:60, 40:60] = 1
    assert keep_component(two, 20, 20)[50, 50] == 0 and keep_component(two, 20, 20)[20, 20] == 1
