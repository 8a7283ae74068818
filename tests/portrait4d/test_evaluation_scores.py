"""A clip's score: perfect for the truth itself, and what each harm does to the measure that should notice it."""

import math
from dataclasses import asdict, replace
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fakes_evaluation import EYE_DISTANCE, PX_PER_LEVEL, LevelIdentity, LevelTracker, level_clip
from flame.errors import InputError
from portrait4d.evaluation.definitions import measures_of
from portrait4d.evaluation.scores import NO_FACE, NO_IDENTITY, NO_PERCEPTUAL, ClipScore, Material, Networks, score_clip
from portrait4d.evaluation.summary import ClipResult, summarise
from portrait4d.evaluation.sweep import NO_VIEWS, SWEEP_YAW_DEGREES, score_sweep
from portrait4d.evaluation.tracks import track_clip
from preprocess.tracking.motion import Motion

LEVELS = 110 + 60 * np.sin(np.arange(30) * 0.5) + 30 * np.sin(np.arange(30) * 0.83)
TRUTH = level_clip(LEVELS)


def score(results: np.ndarray, *, kind: str = "self", truth: np.ndarray = TRUTH) -> ClipScore:
    material = Material(kind, results, truth, truth[0], Fraction(25))  # pyright: ignore[reportArgumentType]
    return score_clip(material, Networks(LevelTracker(), identity=LevelIdentity()))  # pyright: ignore[reportArgumentType]


def test_the_truth_itself_is_perfect() -> None:
    found = score(TRUTH)
    perfect = {"lost": 0, "psnr": 100, "ssim": 1, "identity": 1, "face_shape": 0, "keypoints": 0, "expression": 0}
    perfect |= {"pose": 0, "gaze": 0, "motion_gain": 1, "lag": 0}
    for key, value in perfect.items():
        assert found.values[key] == pytest.approx(value, abs=1e-6), key
    assert found.values["jitter"] == found.truth_values["jitter"] and found.num_frames == 30
    assert found.values["perceptual"] is None and found.reasons["perceptual"] == NO_PERCEPTUAL
    assert list(found.values) == [measure.key for measure in measures_of("self")]
    assert found.values["yaw_error"] is None and found.reasons["yaw_error"] == NO_VIEWS


def test_three_frames_late_frozen_and_another_person_are_each_noticed() -> None:
    late = score(np.roll(TRUTH, 3, axis=0)).values
    assert late["lag"] == 3
    frozen = score(np.repeat(TRUTH[:1], 30, axis=0)).values
    assert (
        frozen["motion_gain"] == pytest.approx(0, abs=1e-9)
        and frozen["lag"] is None
        and frozen["jitter"] == pytest.approx(0, abs=1e-9)
    )
    person = TRUTH.copy()
    person[..., 0] += 30
    other = score(person).values
    assert other["identity"] < 0.99 and other["face_shape"] > 1  # pyright: ignore[reportOptionalOperand]
    for values in (late, frozen, other):
        assert values["psnr"] < 30 and values["keypoints"] > 0.005  # pyright: ignore[reportOptionalOperand]


def test_a_known_difference_has_the_value_of_its_definition() -> None:
    values = score(TRUTH + np.uint8(20)).values
    assert values["psnr"] == pytest.approx(20 * math.log10(255 / 20))
    assert values["keypoints"] == pytest.approx(20 * PX_PER_LEVEL / EYE_DISTANCE, rel=1e-3)
    assert values["pose"] == pytest.approx(math.degrees(0.02), rel=1e-3)
    assert values["expression"] == pytest.approx(20 / 255 / 9, rel=1e-3)


def test_frames_without_a_face_are_counted_and_lower_the_identity() -> None:
    holes = TRUTH.copy()
    holes[10:16] = 0
    found = score(holes)
    assert found.num_lost == 6 and found.values["lost"] == pytest.approx(20)
    assert found.values["identity"] == pytest.approx(0.8) and found.values["keypoints"] == pytest.approx(0, abs=1e-6)
    assert found.values["psnr"] < 85  # pyright: ignore[reportOptionalOperand]
    blind = TRUTH.copy()
    blind[5:10] = 0
    assert score(TRUTH, truth=blind).num_without_truth == 5


def test_a_result_without_any_face_is_a_result_and_a_truth_without_one_is_refused() -> None:
    nothing = score(np.zeros_like(TRUTH))
    assert nothing.values["lost"] == 100 and nothing.values["identity"] == 0
    for key in ("keypoints", "pose", "expression", "gaze", "face_shape", "motion_gain", "lag", "jitter", "flicker"):
        assert nothing.values[key] is None and nothing.reasons[key] == NO_FACE
    with pytest.raises(InputError, match="no face found in the clip"):
        score(TRUTH, truth=np.zeros_like(TRUTH))


def test_without_truth_only_what_needs_none_is_measured() -> None:
    driver = np.repeat(TRUTH, 2, axis=1)
    found = score(TRUTH, kind="cross", truth=driver)
    assert list(found.values) == [measure.key for measure in measures_of("cross")] and "psnr" not in found.values
    assert found.values["expression"] == 0 and found.values["motion_gain"] == 1
    with pytest.raises(ValueError, match="same T"):
        score(TRUTH, truth=driver)


def test_landmarks_that_swing_in_a_still_picture_do_not_count_as_jitter() -> None:
    class Swinging(LevelTracker):
        def track_video(self, *args: Any, **options: Any) -> Motion:
            motion = super().track_video(*args, **options)
            swing = np.where(np.arange(len(motion)) % 2, 1.0, -1.0)[:, None, None]
            return replace(motion, landmarks=(motion.landmarks + swing).astype(np.float32))

    still = np.repeat(TRUTH[:1], 30, axis=0)
    raw = track_clip(still, Fraction(25), Swinging())
    assert np.ptp(raw.landmarks, axis=0).max() == pytest.approx(2)
    measured = track_clip(still, Fraction(25), Swinging(), lambda image, region: region)  # it finds what it is shown
    assert np.ptp(measured.landmarks, axis=0).max() < 1e-4


def test_a_sweep_tells_turns_lost_views_and_the_person() -> None:
    asked = np.radians(SWEEP_YAW_DEGREES)

    class TurnTracker(LevelTracker):  # a view's level counts the degrees from 100 on
        def track_image(self, image: np.ndarray, *, face: int = 0) -> Any:
            tracked = super().track_image(image)
            turn = np.array([[0, np.radians(float(image.mean()) - 100), 0]], np.float32)
            return SimpleNamespace(motion=replace(tracked.motion, rotation=turn), landmarks=tracked.landmarks)

    tracker, identity = TurnTracker(), LevelIdentity()
    grey = np.ones(3) / 3**0.5
    views = level_clip(100 + np.degrees(asked))
    for shown, error, lost, alike in ((views, 0, 0, 1), (views + np.uint8(4), 4, 0, 1), (views, 0, 100 / 3, 2 / 3)):
        shown = shown.copy()
        if lost:
            shown[[0, 5]] = 0
        found = score_sweep(shown, tracker, identity=identity, source_vector=grey)  # pyright: ignore
        wanted = {"yaw_error": error, "yaw_lost": lost, "yaw_identity": alike}
        assert found == {key: pytest.approx(value, abs=1e-3) for key, value in wanted.items()}
    blind = score_sweep(np.zeros_like(views), tracker)  # pyright: ignore[reportArgumentType]
    assert blind == {"yaw_lost": 100, "yaw_error": None, "yaw_identity": None}
    with pytest.raises(ValueError, match="expected 6 views"):
        score_sweep(views[:2], tracker)  # pyright: ignore[reportArgumentType]


def test_a_score_comes_back_out_of_its_dictionary() -> None:
    found = score(TRUTH)
    assert ClipScore.from_dict(asdict(found)) == found


def test_the_summary_counts_clips_that_failed_and_names_the_worst() -> None:
    good, bad = score(TRUTH), score(np.roll(TRUTH, 3, axis=0))
    results = [
        ClipResult("good", "self", "done", good),
        ClipResult("bad", "self", "kept", bad),
        ClipResult("broken", "self", "failed", reason="damaged"),
    ]
    found = summarise(results, "self")
    assert found["lag"].mean == 1.5 and found["lag"].worst == 3 and found["lag"].worst_clip == "bad"
    assert (found["psnr"].num_clips, found["psnr"].num_without, found["psnr"].worst_clip) == (2, 1, "bad")
    assert found["perceptual"].mean is None and found["perceptual"].reason == NO_PERCEPTUAL
    assert found["jitter"].truth_mean == pytest.approx(good.truth_values["jitter"])
    assert found["psnr"].truth_mean is None
    without = score_clip(
        Material("self", TRUTH, TRUTH, TRUTH[0], Fraction(25)),
        Networks(LevelTracker()),  # pyright: ignore[reportArgumentType]
    )
    assert summarise([ClipResult("a", "self", "done", without)], "self")["identity"].reason == NO_IDENTITY
    assert summarise([], "cross")["pose"].num_clips == 0
