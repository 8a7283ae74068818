"""The measures of an evaluation, by their mathematics: perfect for equal clips, worse for what each should notice."""

import math

import numpy as np
import pytest

from fakes import make_fake_head
from flame.errors import InputError
from flame.landmarks.groups import OUTER_EYE_CORNERS
from portrait4d.evaluation import motion, pictures, steadiness
from portrait4d.evaluation.definitions import BY_KEY, MEASURES, STEADINESS, describe_best, measures_of
from preprocess.faces.alignment import fit_similarity

RANDOM = np.random.default_rng(3)
NUM_FRAMES = 40


def noise(*shape: int) -> np.ndarray:
    return RANDOM.integers(0, 256, shape, np.uint8)


def moving_weights() -> np.ndarray:
    """Expression weights `[T, 6]` that do not repeat."""
    times = np.arange(NUM_FRAMES)[:, None] / 25
    return (0.5 + 0.5 * np.sin(2 * np.pi * times * np.array([1.1, 0.7, 2.3, 1.7, 0.9, 1.3]))).astype(np.float32)


def face_points(frames: int = NUM_FRAMES) -> np.ndarray:
    """Landmarks `[T, 478, 3]` of one face at one place, its outer eye corners 50 px apart."""
    points = np.random.default_rng(5).uniform(60, 180, (478, 3))
    right, left = OUTER_EYE_CORNERS
    points[right], points[left] = (95, 100, 0), (145, 100, 0)
    return np.repeat(points[None], frames, 0)


ALL = np.ones(NUM_FRAMES, bool)


def test_pixels_of_equal_pictures_agree_and_a_known_error_has_its_decibels() -> None:
    picture = noise(32, 40, 3)
    assert pictures.psnr(picture, picture) == pictures.MOST_DECIBELS and pictures.ssim(picture, picture) == 1
    grey = np.full((32, 40, 3), 100, np.uint8)
    assert pictures.psnr(grey + np.uint8(10), grey) == pytest.approx(20 * math.log10(25.5))
    assert pictures.psnr(noise(32, 40, 3), picture) < 10 and abs(pictures.ssim(noise(32, 40, 3), picture)) < 0.2
    with pytest.raises(ValueError, match="one shape"):
        pictures.psnr(picture, grey[:16])


def test_structural_similarity_of_two_flat_pictures_is_that_of_their_means() -> None:
    first, second = np.full((24, 24, 3), 100, np.uint8), np.full((24, 24, 3), 150, np.uint8)
    constant = (0.01 * 255) ** 2
    wanted = (2 * 100 * 150 + constant) / (100**2 + 150**2 + constant)
    assert pictures.ssim(first, second) == pytest.approx(wanted, abs=1e-6)


def test_results_of_other_sizes_are_scaled_and_other_shapes_refused() -> None:
    flat = np.full((64, 48, 3), 77, np.uint8)
    for height, width in ((128, 96), (32, 24), (64, 48)):
        scaled = pictures.fit_size(flat, height=height, width=width)
        assert scaled.shape == (height, width, 3) and (scaled == 77).all()
    with pytest.raises(InputError, match="48 x 64"):
        pictures.fit_size(flat, height=64, width=64)


def test_keypoints_are_measured_in_outer_eye_distances_without_alignment() -> None:
    truth = face_points()
    moved = truth + np.array([3.0, 4.0, 99.0])  # depth does not count
    assert motion.keypoint_distances(truth, truth).max() == 0
    assert motion.keypoint_distances(moved, truth) == pytest.approx(np.full(NUM_FRAMES, 0.1))
    assert motion.keypoint_distances(2 * moved, 2 * truth) == pytest.approx(np.full(NUM_FRAMES, 0.1))


def test_angles_are_those_between_the_heads_and_the_eyes() -> None:
    truth = RANDOM.normal(size=(NUM_FRAMES, 3)).astype(np.float32) * 0.2
    still = np.zeros_like(truth)
    turned = still + np.array([0, math.radians(7), 0], np.float32)
    assert motion.pose_differences(truth, truth).max() == 0
    assert motion.pose_differences(turned, still) == pytest.approx(np.full(NUM_FRAMES, 7.0), rel=1e-5)
    eyes = np.zeros((NUM_FRAMES, 2, 3), np.float32)
    rolled, looking = eyes.copy(), eyes.copy()
    rolled[..., 2], looking[:, 0, 1] = 0.4, math.radians(10)
    assert motion.gaze_differences(rolled, eyes).max() == pytest.approx(0, abs=1e-5)
    assert motion.gaze_differences(looking, eyes) == pytest.approx(np.full(NUM_FRAMES, 5.0), rel=1e-5)


def test_expression_gain_and_lag_of_equal_half_frozen_and_shifted_motions() -> None:
    truth = moving_weights()
    frozen = np.repeat(truth[:1], NUM_FRAMES, 0)
    assert motion.expression_differences(truth, truth).max() == 0 and motion.motion_gain(truth, truth) == 1
    assert motion.find_lag(truth, truth, ALL) == 0
    assert motion.motion_gain(0.5 * truth + 0.1, truth) == pytest.approx(0.5, abs=1e-6)
    assert motion.motion_gain(frozen, truth) == 0 and motion.find_lag(frozen, truth, ALL) is None
    assert motion.motion_gain(truth, frozen) is None
    for lag in (3, -2):
        shifted = np.roll(truth, lag, axis=0)
        found = ALL.copy()
        found[: max(lag, 0)] = found[NUM_FRAMES + min(lag, 0) :] = False
        assert motion.find_lag(shifted, truth, found) == lag
        assert motion.expression_differences(shifted, truth).mean() > 0.05
    assert motion.find_lag(truth, truth, np.zeros(NUM_FRAMES, bool)) is None


def test_shapes_are_apart_by_what_the_head_model_says() -> None:
    model = make_fake_head()
    mean, other = np.zeros(model.num_shape, np.float32), np.zeros(model.num_shape, np.float32)
    other[0] = 1
    assert motion.face_shape_distance(other, other, model) == 0
    apart = motion.face_shape_distance(other, mean, model)
    assert apart > 0.1 and motion.face_shape_distance(2 * other, mean, model) == pytest.approx(2 * apart, rel=1e-5)


def test_jitter_ignores_smooth_motion_and_grows_with_noise() -> None:
    still = face_points()
    times = np.arange(NUM_FRAMES)[:, None, None]
    smooth = still + np.array([0.3, 0.02, 0]) * times + np.array([0.01, 0, 0]) * times**2
    assert steadiness.jitter(smooth, ALL) == pytest.approx(0, abs=1e-6)
    shaken = [steadiness.jitter(still + RANDOM.normal(size=still.shape) * sigma, ALL) for sigma in (0.1, 1.0)]
    assert shaken[0] is not None and shaken[1] == pytest.approx(10 * shaken[0], rel=0.05)
    # the residue of white noise: 2 coordinates, each 1 - 17 / 35 of its variance left by the 5-frame fit
    assert shaken[1] == pytest.approx(1000 / 50 * math.sqrt(2 * (1 - 17 / 35)), rel=0.05)


def test_steadiness_is_measured_within_runs_with_a_face_only() -> None:
    points, frames = face_points(), np.repeat(noise(1, 240, 240, 3), NUM_FRAMES, 0)
    jump, found = points.copy(), ALL.copy()
    jump[20:], found[19:21] = jump[20:] + 50, False
    assert steadiness.jitter(jump, found) == pytest.approx(0, abs=1e-6)
    assert steadiness.jitter(points, np.arange(NUM_FRAMES) % 5 > 0) is None
    assert steadiness.flicker(frames, points, np.arange(NUM_FRAMES) % 3 > 0) is None


def test_flicker_is_that_of_brightness_and_not_of_motion() -> None:
    picture = np.full((240, 240, 3), 120, np.uint8)
    frames, points = np.repeat(picture[None], NUM_FRAMES, 0), face_points()
    assert steadiness.flicker(frames, points, ALL) == 0
    flickering = frames + (np.arange(NUM_FRAMES) % 2 * 5)[:, None, None, None].astype(np.uint8)
    assert steadiness.flicker(flickering, points, ALL) == pytest.approx(10)
    ramp = np.repeat(np.arange(240, dtype=np.uint8)[None, :, None], 240, 0).repeat(3, 2)
    moved = np.stack([np.roll(ramp, 2 * index, 1) for index in range(10)])
    followed = face_points(10) + np.arange(10)[:, None, None] * np.array([2.0, 0, 0])
    followed_flicker = steadiness.flicker(moved, followed, np.ones(10, bool))
    assert followed_flicker is not None and followed_flicker < 0.05


def test_similarity_recovers_turn_scale_and_shift() -> None:
    points = RANDOM.normal(size=(9, 2))
    matrix = np.array([[0.6, -0.8, 3.0], [0.8, 0.6, -2.0]]) * [[1.5, 1.5, 1], [1.5, 1.5, 1]]
    assert fit_similarity(points, points @ matrix[:, :2].T + matrix[:, 2]) == pytest.approx(matrix)
    with pytest.raises(ValueError, match="differ"):
        fit_similarity(np.ones((4, 2)), np.ones((4, 2)))


def test_every_measure_has_its_own_key_and_a_definition_that_is_a_sentence() -> None:
    assert len(BY_KEY) == len(MEASURES) and set(STEADINESS) < set(BY_KEY)
    for measure in MEASURES:
        assert measure.definition.endswith(".") and describe_best(measure)
    needs_truth = {"psnr", "ssim", "perceptual", "keypoints"}
    assert {item.key for item in measures_of("self")} - {item.key for item in measures_of("cross")} == needs_truth
