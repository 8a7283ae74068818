"""Edits of a motion by name: what is named changes as the head model says, and nothing else."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from flame.errors import InputError
from flame.geometry.rotation import axis_angle_to_matrix
from flame.heads.expression_names import ARKIT_ACTIONS, ARKIT_NAMES, GROUPS, LOOK_RADIANS, actions_of
from flame.heads.head_pose import HEAD_CENTRE
from flame.heads.open_head import OpenHead
from flame.landmarks.groups import (
    INNER_LIP_MIDDLES,
    INNER_LIPS,
    IRIS_CENTRES,
    LEFT_LIDS,
    NOSE_TIP,
    OUTER_EYE_CORNERS,
    RIGHT_LIDS,
)
from motions import make_motion
from portrait4d.engines.own_drive import edited_drive
from portrait4d.engines.retarget import RetargetOptions, retarget
from preprocess.tracking.edit import open_head
from preprocess.tracking.head_landmarks import landmark_residual
from preprocess.tracking.motion import Motion

UNTOUCHED = ("seconds", "shape", "translation", "rotation", "neck", "jaw", "valid", "fit_error", "crop_matrix")
MEETING = {*INNER_LIPS, *LEFT_LIDS[0], *LEFT_LIDS[1], *RIGHT_LIDS[0], *RIGHT_LIDS[1]}
"""Landmarks that touch instead of crossing."""


@pytest.fixture(scope="module")
def head() -> OpenHead:
    model = open_head()
    assert isinstance(model, OpenHead)
    return model


@pytest.fixture(scope="module")
def clip() -> Motion:
    """Five frames of a turned person whose landmarks are off the head model by a few pixels, as a tracked one's are."""
    generator = np.random.default_rng(2)
    shares = np.linspace(0.1, 0.3, 5)
    motion = Motion.from_arkit(
        {"mouthSmileLeft": shares, "jawOpen": shares, "browInnerUp": 0.2}, frame_rate=25, yaw_degrees=12, roll_degrees=5
    )
    off = generator.normal(0, 1.5, (1, 478, 3)).astype(np.float32) + generator.normal(0, 0.2, (5, 478, 3))
    shape = generator.normal(0, 0.5, motion.shape.shape).astype(np.float32)
    landmarks = (motion.landmarks + off).astype(np.float32)
    return dataclasses.replace(motion, shape=shape, landmarks=landmarks, neutral=None, source="clip.mp4")


def _avatar(motion: Motion) -> Any:
    return SimpleNamespace(motion=motion, engine="lift")


def test_the_names_are_those_of_the_open_head(head: OpenHead) -> None:
    assert head.expression_names[: len(ARKIT_NAMES)] == ARKIT_NAMES and len(ARKIT_ACTIONS) == 52
    assert {action for group in GROUPS.values() for action in group} <= set(ARKIT_NAMES)
    assert actions_of("smile") == ("mouthSmileLeft", "mouthSmileRight") == GROUPS["smile"]
    assert {actions_of(name) for name in ("jawOpen", "jaw_open", "jaw-open", "JawOpen")} == {("jawOpen",)}


def test_an_empty_edit_changes_nothing(clip: Motion) -> None:
    again = clip.edit()
    assert np.abs(again.landmarks - clip.landmarks).max() < 1e-3
    assert np.abs(again.eye_open - clip.eye_open).max() < 1e-5
    for name in (*UNTOUCHED, "expression", "eyes"):
        assert np.array_equal(getattr(again, name), getattr(clip, name)), name


def test_landmarks_move_as_the_head_does_and_keep_their_residual(clip: Motion, head: OpenHead) -> None:
    edited = clip.edit(smile=0.9, brows_up=0.7)
    for name in (*UNTOUCHED, "eyes"):
        assert np.array_equal(getattr(edited, name), getattr(clip, name)), name
    changed = {*GROUPS["smile"], *GROUPS["brows_up"]}
    for column, name in enumerate(head.expression_names):
        expected = (0.9 if "Smile" in name else 0.7) if name in changed else clip.expression[:, column]
        assert np.allclose(edited.expression[:, column], expected), name
    assert np.abs(edited.landmarks - clip.landmarks).max() > 5
    residual, before = landmark_residual(head, edited), landmark_residual(head, clip)
    free = [point for point in range(478) if point not in MEETING]
    assert torch.allclose(residual[:, free], before[:, free], atol=2e-6)
    assert torch.allclose(residual, before, atol=1e-3)  # lips that would cross


def test_values_may_differ_by_frame_and_are_read_back(clip: Motion) -> None:
    edited = clip.edit({"jaw-open": [0, 0.1, 0.2, 0.3, 1.0]}, smile=clip.values("smile") + 0.5)
    assert np.allclose(edited.values("jawOpen"), [0, 0.1, 0.2, 0.3, 1.0])
    assert np.allclose(edited.values("smile"), clip.values("smile") + 0.5)
    assert np.allclose(clip.edit(smile=0.1, smile_left=0.7).values("mouthSmileRight"), 0.1)


def test_a_shut_mouth_does_not_cross_and_shut_lids_meet(clip: Motion) -> None:
    upper, lower = INNER_LIP_MIDDLES
    opened = clip.edit(jaw_open=0.8)
    assert (opened.landmarks[:, lower, 1] - opened.landmarks[:, upper, 1]).min() > 15
    shut = opened.edit(jaw_open=0, mouth_shrug_lower=1)
    assert (shut.landmarks[:, lower, 1] - shut.landmarks[:, upper, 1]).min() > -1.5
    winking = clip.edit(blink_left=1)
    assert winking.eye_open[:, 0].max() < 0.25 * clip.eye_open[:, 0].min()
    assert np.allclose(winking.eye_open[:, 1], clip.eye_open[:, 1], atol=1e-5)


def test_gaze_turns_the_eyes_and_the_lids_with_them(clip: Motion) -> None:
    frontal = clip.edit(yaw_degrees=0, roll_degrees=0, gaze=(0, 0))
    edited = frontal.edit(gaze=(0.4, 0.5))
    assert np.allclose(edited.eyes, LOOK_RADIANS * np.array([-0.5, 0.4, 0]), atol=1e-6)
    assert np.allclose(edited.values("gaze"), [0.4, 0.5])
    assert np.allclose(edited.values("eyeLookOutLeft"), 0.4) and np.allclose(edited.values("eyeLookInRight"), 0.4)
    assert np.allclose(edited.values("eyeLookUpLeft"), 0.5) and not edited.values("eyeLookDownLeft").any()
    for iris in IRIS_CENTRES.values():  # to the right and up in the picture
        moved = edited.landmarks[:, iris] - frontal.landmarks[:, iris]
        assert (moved[:, 0] > 3).all() and (moved[:, 1] < -3).all()
    crossed = clip.edit(eyeLookInLeft=1, eyeLookInRight=1)
    assert np.allclose(crossed.eyes[:, 0, 1], -LOOK_RADIANS) and np.allclose(crossed.eyes[:, 1, 1], LOOK_RADIANS)


def test_an_angle_turns_the_head_around_its_middle_and_leaves_the_others(clip: Motion) -> None:
    edited = clip.edit(yaw_degrees=[-20, -10, 0, 10, 20])
    assert np.allclose(edited.values("yaw_degrees"), [-20, -10, 0, 10, 20], atol=1e-3)
    for name in ("pitch_degrees", "roll_degrees"):
        assert np.allclose(edited.values(name), clip.values(name), atol=1e-3)
    for motion in (clip, edited):
        turned = axis_angle_to_matrix(torch.from_numpy(motion.rotation)) @ torch.tensor(HEAD_CENTRE)
        place = turned.numpy() + motion.translation
        assert np.allclose(place, place[0], atol=1e-5)
    nose = edited.landmarks[:, NOSE_TIP, 0] - edited.landmarks[:, OUTER_EYE_CORNERS, 0].mean(1)
    assert (np.diff(nose) > 5).all()  # yaw > 0: to the viewer's right
    assert np.array_equal(edited.expression, clip.expression)


def test_an_edited_clip_is_relative_to_the_neutral_frame_that_it_had(clip: Motion, head: OpenHead) -> None:
    """A constant smile must not vanish as the driver's neutral expression."""
    source = _avatar(Motion.from_arkit({"browInnerUp": 0.1}))
    before, after = (retarget(motion, source, RetargetOptions(), head) for motion in (clip, clip.edit(smile=0.6)))
    columns = [head.expression_names.index(name) for name in GROUPS["smile"]]
    gained = (after.head.expression - before.head.expression)[:, columns]
    assert torch.allclose(gained, torch.from_numpy(0.6 - clip.expression[:, columns]), atol=1e-5)
    others = [index for index in range(head.num_expression) if index not in columns]
    assert torch.allclose(after.head.expression[:, others], before.head.expression[:, others], atol=1e-5)
    assert torch.allclose(after.pose.rotation, before.pose.rotation)
    again = clip.edit(smile=0.6).edit(jaw_open=0.5)
    assert again.neutral is not None and np.array_equal(again.neutral.expression, clip.edit().neutral.expression)  # pyright: ignore[reportOptionalMemberAccess]


def test_an_avatar_in_its_own_motion_is_its_source(clip: Motion, head: OpenHead) -> None:
    own = clip[:1]
    drive = edited_drive(_avatar(own), own.edit(), head)
    assert torch.equal(drive.head.expression, torch.from_numpy(own.expression)) and drive.eye_closed.max() < 1e-5
    assert torch.allclose(drive.residual, landmark_residual(head, own), atol=2e-6)
    winking = edited_drive(_avatar(own), own.edit(blink_right=1), head)
    assert winking.eye_closed[0, 0] == 0 and winking.eye_closed[0, 1] > 0.6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"smil": 0.5}, "got 'smil': did you mean 'smile'"),
        ({"jawOpn": 0.5}, "did you mean 'jawOpen'"),
        ({"pitch": 5}, "did you mean 'pitch_degrees'"),
        ({"smile": 1.2}, r"expected smile as a number from 0 to 1, .*got 1.2"),
        ({"smile": -0.1}, "from 0 to 1"),
        ({"smile": float("nan")}, "got nan"),
        ({"smile": [0.1, 0.2]}, "or so for each of 5 frames"),
        ({"smile": "much"}, "got 'much'"),
        ({"gaze": 0.3}, "gaze as two numbers from -1 to 1"),
        ({"gaze": (0, 2)}, "from -1 to 1"),
        ({"yaw_degrees": 120}, "from -90 to 90"),
    ],
)
def test_what_cannot_be_set_is_refused(clip: Motion, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        clip.edit(changes)


def test_motion_codes_and_nameless_heads_are_refused_but_for_the_pose(clip: Motion) -> None:
    coded = dataclasses.replace(clip, codes=np.zeros((5, 548), np.float32))
    for changes in ({"smile": 0.5}, {"gaze": (0, 0)}):
        with pytest.raises(InputError, match="motion codes, which hold expression and gaze"):
            coded.edit(changes)
    assert np.allclose(coded.edit(yaw_degrees=3).values("yaw_degrees"), 3, atol=1e-3)
    with pytest.raises(InputError, match="expected the head model of this motion, 'flame', got none"):
        make_motion(2, head_model="flame").edit(yaw_degrees=3)


def test_weights_alone_make_a_motion_that_counts_from_the_face_at_rest(head: OpenHead) -> None:
    motion = Motion.from_arkit({"_neutral": [0.9, 0.1], "mouthSmileLeft": 0.5, "jawOpen": [0, 0.4]}, pitch_degrees=8)
    assert len(motion) == 2 and np.allclose(motion.values("jaw_open"), [0, 0.4])
    assert landmark_residual(head, motion).abs().max() < 1e-3  # lips that would cross
    source = _avatar(Motion.from_arkit({"mouthSmileLeft": 0.2}, yaw_degrees=5))
    drive = retarget(motion, source, RetargetOptions(), head)
    assert torch.allclose(drive.head.expression[:, head.expression_names.index("mouthSmileLeft")], torch.tensor(0.7))
    single = retarget(motion[1:], source, RetargetOptions(), head)
    assert torch.allclose(single.head.expression, drive.head.expression[1:], atol=1e-6)
    array = np.stack(list(motion.to_arkit().values()), 1)
    assert array.shape == (2, 52)
    assert np.allclose(Motion.from_arkit(array).expression, motion.expression)
    for rate in (0, 1e-5, float("nan")):
        with pytest.raises(InputError, match="rate from 0.01 to 1000"):
            Motion.from_arkit({"jawOpen": [0, 1]}, frame_rate=rate)
    with pytest.raises(InputError, match=r"weights \[T, 52\]"):
        Motion.from_arkit(np.zeros((2, 51)))
    with pytest.raises(InputError, match=r"one number of frames, got \[2, 3\]"):
        Motion.from_arkit({"jawOpen": [0, 0], "smile": [0, 0, 0]})


def test_the_neutral_frame_is_kept_in_the_file_and_in_parts(clip: Motion, tmp_path: Any) -> None:
    edited = clip.edit(smile=0.5)
    edited.save(tmp_path / "m.npz")
    read = Motion.load(tmp_path / "m.npz")
    for item in dataclasses.fields(edited.neutral):  # pyright: ignore[reportArgumentType]
        assert np.array_equal(getattr(read.neutral, item.name), getattr(edited.neutral, item.name))
    assert read[1:3].neutral is not None and np.array_equal(read.landmarks, edited.landmarks)
    arrays = dict(np.load(tmp_path / "m.npz"))
    for damage in ({"neutral_rotation": np.zeros(2)}, {"neutral_expression": np.full(86, np.nan)}):
        np.savez(tmp_path / "bad.npz", **{**arrays, **damage})  # pyright: ignore[reportArgumentType]
        with pytest.raises(InputError, match="is damaged"):
            Motion.load(tmp_path / "bad.npz")
    del arrays["neutral_eye_open"]
    np.savez(tmp_path / "bad.npz", **arrays)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="lacks neutral_eye_open"):
        Motion.load(tmp_path / "bad.npz")
