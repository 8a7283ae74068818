"""Live tracking against the tracking of whole clips, and what happens where the face goes and comes back."""

import numpy as np
import torch

from flame.geometry.rotation import axis_angle_to_matrix, matrix_to_euler_degrees
from live_heads import free_models, portrait, rolled


def roll_degrees(rotation: np.ndarray) -> float:
    return float(matrix_to_euler_degrees(axis_angle_to_matrix(torch.as_tensor(rotation[0])))[2])


def test_a_still_picture_is_tracked_as_a_photo_is() -> None:
    tracker = free_models().tracker
    live = tracker.live()
    motions = [live(portrait(), index / 25) for index in range(6)]
    assert all(motion is not None and len(motion) == 1 and motion.valid.all() for motion in motions)
    photo, last = tracker.track_image(portrait()).motion, motions[-1]
    assert last is not None
    turn = (
        axis_angle_to_matrix(torch.from_numpy(last.rotation[0]))
        @ axis_angle_to_matrix(torch.from_numpy(photo.rotation[0])).T
    )
    assert float(np.degrees(np.arccos(np.clip((np.trace(turn.numpy()) - 1) / 2, -1, 1)))) < 1.5
    assert np.abs(last.expression - photo.expression).mean() < 0.03
    assert last.seconds[0] == 5 / 25


def test_turns_of_the_picture_are_measured_in_their_sense() -> None:
    live = free_models().tracker.live()
    seen = []
    for index, degrees in enumerate((0, 4, 8, 8, 8)):
        motion = live(rolled(degrees), index / 25)
        assert motion is not None
        seen.append(roll_degrees(motion.rotation))
    assert 6.5 < seen[-1] - seen[0] < 9.5


def test_a_picture_without_the_face_gives_none_and_the_next_with_it_is_tracked() -> None:
    live = free_models().tracker.live()
    first = live(portrait(), 0.0)
    assert live(np.full((512, 512, 3), 90, np.uint8), 0.04) is None
    again = live(portrait(), 0.08)
    assert first is not None and again is not None
    assert np.array_equal(first.crop_matrix, again.crop_matrix)
    assert np.abs(first.rotation - again.rotation).max() < 0.02


def test_holding_still_fits_the_identity_to_what_was_seen_and_keeps_the_place() -> None:
    live = free_models().tracker.live()
    before = [live(rolled(degrees), index / 25) for index, degrees in enumerate((0, 2, 4, 6))][-1]
    live.hold_still()
    after = live(rolled(6), 5 / 25)
    assert before is not None and after is not None
    assert not np.array_equal(before.shape, after.shape)
    assert np.array_equal(before.crop_matrix, after.crop_matrix)
    assert abs(roll_degrees(before.rotation) - roll_degrees(after.rotation)) < 1.0


def test_pictures_of_another_size_get_a_crop_of_their_own() -> None:
    live = free_models().tracker.live()
    first, second = live(portrait(), 0.0), live(np.ascontiguousarray(portrait()[:320, 60:400]), 0.04)
    assert first is not None and second is not None
    assert (second.frame_height, second.frame_width) == (320, 340)
    assert not np.array_equal(first.crop_matrix, second.crop_matrix)
