"""Control measured by the tracker: a fake one for the arithmetic, the true one for the way through it."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from flame.errors import InputError
from portrait4d.jobs.demo import demo_photo
from portrait4d.metrics.tracked import ENLARGED_SIDE, Heads, control_errors, enlarge, track_heads
from preprocess.tracking.tracker import Tracker


class FakeTracker:
    """Reads the expression from the level of a picture, and finds no face in a black one."""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, ...]] = []

    def track_image(self, image: np.ndarray, *, face: int = 0) -> Any:
        self.sizes.append(image.shape)
        level = float(image.mean()) / 100
        if not level:
            raise InputError("no face found in the picture")
        motion = SimpleNamespace(
            expression=np.full((1, 4), level, np.float32),
            rotation=np.array([[0, level, 0]], np.float32),
            eyes=np.array([[[0, level, 0], [level, 0, 0]]], np.float32),
        )
        return SimpleNamespace(motion=motion)


def heads(count: int, *, found: list[bool] | None = None) -> Heads:
    return Heads(
        np.zeros((count, 4), np.float32),
        np.zeros((count, 3), np.float32),
        np.zeros((count, 2, 3), np.float32),
        np.array(found or [True] * count),
    )


def pictures(*levels: int) -> list[np.ndarray]:
    return [np.full((64, 64, 3), level, np.uint8) for level in levels]


def test_errors_are_means_over_pictures_with_a_face() -> None:
    measured = track_heads(pictures(10, 0, 30), FakeTracker())
    assert measured.found.tolist() == [True, False, True] and not measured.expression[1].any()
    errors = control_errors(measured, heads(3))
    assert errors.found_share == pytest.approx(2 / 3) and errors.num_compared == 2
    assert errors.expression == pytest.approx(0.2, rel=1e-4)
    assert errors.pose_degrees == pytest.approx(math.degrees(0.2), rel=1e-4)
    assert errors.gaze_degrees == pytest.approx(math.degrees(0.2), rel=1e-4)


def test_equal_heads_have_no_error_and_faces_that_truth_lacks_do_not_count() -> None:
    measured = track_heads(pictures(10, 20, 30), FakeTracker())
    errors = control_errors(measured, measured)
    assert (errors.expression, errors.pose_degrees, errors.gaze_degrees, errors.found_share) == (0, 0, 0, 1)
    assert control_errors(measured, heads(3, found=[True, False, False])).num_compared == 1
    nothing = control_errors(measured, heads(3, found=[False] * 3))
    assert nothing.num_compared == 0 and math.isnan(nothing.found_share) and math.isnan(nothing.expression)


def test_gaze_does_not_see_an_eye_that_rolls_about_its_own_axis() -> None:
    rolled = heads(1)
    rolled.eyes[:, :, 2] = 0.5
    assert control_errors(rolled, heads(1)).gaze_degrees == pytest.approx(0, abs=1e-6)


def test_small_pictures_are_enlarged_and_large_ones_left_alone() -> None:
    tracker = FakeTracker()
    track_heads([np.full((64, 96, 3), 9, np.uint8), np.full((600, 700, 3), 9, np.uint8)], tracker)
    assert tracker.sizes == [(ENLARGED_SIDE, 768, 3), (600, 700, 3)]
    flat = enlarge(np.full((16, 16, 3), 77, np.uint8), side=64)
    assert flat.shape == (64, 64, 3) and (flat == 77).all()


def test_no_face_at_all_and_other_counts_are_refused() -> None:
    with pytest.raises(InputError, match="no face found in any of 2 pictures"):
        track_heads(pictures(0, 0), FakeTracker())
    with pytest.raises(ValueError, match=r"\[2, 4\] and \[3, 4\]"):
        control_errors(heads(2), heads(3))


def test_the_true_tracker_sees_a_photo_again_at_a_quarter_of_its_side(one_thread: None) -> None:
    photo = demo_photo()
    small = photo[::4, ::4]
    found = track_heads([photo, np.ascontiguousarray(small), np.full_like(photo, 90)], Tracker())
    assert found.found.tolist() == [True, True, False]
    first, second = (
        Heads(*(getattr(found, name)[index : index + 1] for name in Heads.__dataclass_fields__)) for index in (0, 1)
    )
    errors = control_errors(second, first)
    assert errors.pose_degrees < 4 and errors.expression < 0.1 and errors.gaze_degrees < 6
