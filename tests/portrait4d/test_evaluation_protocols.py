"""Protocols: which clips and frames are compared, the square in which pixels are, and published tables."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from fakes_evaluation import LevelTracker, level_clip
from flame.errors import InputError
from flame.landmarks.sets import FIVE_POINTS
from portrait4d.evaluation.protocols import ALL_FRAMES, VFHQ_50X50, load_protocol
from portrait4d.evaluation.published import PUBLISHED
from portrait4d.evaluation.scores import Material, Networks, score_clip

LEVELS = 110 + 60 * np.sin(np.arange(60) * 0.5)
NETWORKS = Networks(LevelTracker())  # pyright: ignore[reportArgumentType]


def material(results: np.ndarray) -> Material:
    truth = level_clip(LEVELS)
    return Material("self", results, truth, truth[0], Fraction(25))


def test_the_named_protocol_wants_its_clips_and_spreads_its_frames() -> None:
    VFHQ_50X50.check_clips(50)
    ALL_FRAMES.check_clips(3)
    with pytest.raises(InputError, match="expected 50 clips under --protocol vfhq-50x50, got 3"):
        VFHQ_50X50.check_clips(3)
    chosen = VFHQ_50X50.frames(99)
    assert len(chosen) == 50 and chosen.tolist() == list(range(0, 99, 2))
    assert ALL_FRAMES.frames(7).tolist() == list(range(7))
    with pytest.raises(InputError, match="at least 50 frames"):
        VFHQ_50X50.frames(49)
    with pytest.raises(InputError, match="vfhq-50x50"):
        load_protocol("vfhq")  # pyright: ignore[reportArgumentType]


def test_the_square_has_three_sides_of_the_box_of_five_points_and_stays_within_the_pictures_side() -> None:
    points = np.zeros((478, 3))
    for averaged, place in zip(FIVE_POINTS[478], ((90, 80), (130, 80), (110, 100), (95, 130), (125, 120)), strict=True):
        points[list(averaged), :2] = place
    box = VFHQ_50X50.box(points, image_size=(400, 300))
    assert box is not None and box.size == 512
    assert box.to_image(np.array([[0.0, 0.0], [512, 512]])) == pytest.approx(np.array([[35, 30], [185, 180]]))
    small = VFHQ_50X50.box(points, image_size=(100, 120))
    assert small is not None and 512 / small.scale == pytest.approx(100)
    assert ALL_FRAMES.box(points, image_size=(400, 300)) is None


def test_only_chosen_frames_and_pixels_of_the_square_are_compared() -> None:
    few = replace(VFHQ_50X50, num_clips=None, num_frames=6, box_px=64)
    spoilt = level_clip(LEVELS)
    others = np.setdiff1d(np.arange(60), few.frames(60))
    spoilt[others] = 255 - spoilt[others]
    found = score_clip(material(spoilt), NETWORKS, few)
    assert found.num_frames == 6 and found.values["psnr"] == 100 and found.values["keypoints"] == 0
    assert found.values["motion_gain"] != pytest.approx(1)  # of all frames
    edge = level_clip(LEVELS)
    edge[:, :2] = 0
    tight = replace(few, box_scale=1.0)
    assert score_clip(material(edge), NETWORKS, tight).values["psnr"] == 100
    whole = score_clip(material(edge), NETWORKS).values["psnr"]
    assert whole is not None and whole < 40


def test_a_protocol_whose_frames_show_no_face_is_refused() -> None:
    few = replace(VFHQ_50X50, num_clips=None, num_frames=2)
    levels = LEVELS.copy()
    levels[[0, 59]] = 0
    blind = Material("self", level_clip(levels), level_clip(levels), level_clip(levels)[1], Fraction(25))
    with pytest.raises(InputError, match="protocol compares"):
        score_clip(blind, NETWORKS, few)


def test_published_rows_are_whole() -> None:
    for table in PUBLISHED:
        assert table.protocol and table.source
        assert all(len(row) == 1 + len(table.measures) for row in table.rows)
