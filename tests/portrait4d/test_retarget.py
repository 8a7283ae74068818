"""Retargeting: identities first, then limits and modes."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fakes import make_fake_head
from flame.geometry.rotation import axis_angle_to_matrix, matrix_to_euler_degrees
from motions import make_motion
from portrait4d.engines import retarget as retarget_module
from portrait4d.engines.own_drive import orbit_drive
from portrait4d.engines.retarget import RetargetOptions, batches, retarget, retarget_parts
from preprocess.tracking.head_landmarks import landmark_residual
from preprocess.tracking.neutral import find_neutral


@pytest.fixture(scope="module")
def model():
    return make_fake_head(dtype=torch.float32)


def _avatar(motion) -> Any:
    """What retargeting reads of an avatar: the motion of its source."""
    return SimpleNamespace(motion=motion)


def _consistent(model, motion):
    """The motion with landmarks where its own head model puts them."""
    params = motion.params(model)
    points = model.landmarks(model.shaped(params.shape, params.expression))
    rotation = axis_angle_to_matrix(torch.from_numpy(motion.rotation))
    camera = points @ rotation.mT + torch.from_numpy(motion.translation)[:, None]
    focal = float(motion.camera(0).intrinsics[0, 0, 0]) * motion.crop_size
    x = motion.crop_size / 2 - focal * camera[..., 0] / camera[..., 2]
    y = motion.crop_size / 2 + focal * camera[..., 1] / camera[..., 2]
    return dataclasses.replace(motion, landmarks=torch.stack([x, y, torch.zeros_like(x)], -1).numpy())


@pytest.mark.parametrize("yaw", [0.0, 23.0, -34.0])
@pytest.mark.parametrize("mode", ["relative", "absolute"])
def test_a_source_that_drives_itself_stays_as_it_is(model, mode, yaw):
    source = make_motion(1)[:1]
    turned = np.array([[0.05, np.radians(yaw), -0.03]], np.float32)
    source = dataclasses.replace(source, rotation=turned)
    drive = retarget(source, _avatar(source), RetargetOptions(mode=mode), model)
    assert torch.allclose(drive.head.expression, torch.from_numpy(source.expression), atol=1e-6)
    assert torch.allclose(drive.pose.rotation, torch.from_numpy(source.rotation), atol=1e-5)
    assert torch.allclose(drive.pose.translation, torch.from_numpy(source.translation), atol=1e-6)
    assert torch.allclose(drive.residual[0], landmark_residual(model, source)[0], atol=1e-7)
    assert drive.eye_closed.abs().max() == 0


def test_residual_is_zero_for_perfect_landmarks_and_measures_a_shift(model):
    motion = _consistent(model, make_motion(4))
    assert landmark_residual(model, motion).abs().max() < 1e-5
    moved = motion.landmarks.copy()
    moved[:, 10, 0] += 3.0
    residual = landmark_residual(model, dataclasses.replace(motion, landmarks=moved))
    turned = residual @ axis_angle_to_matrix(torch.from_numpy(motion.rotation)).mT
    pixel = 1.5 / (float(motion.camera(0).intrinsics[0, 0, 0]) * motion.crop_size)  # metres per pixel, about
    assert torch.allclose(turned[:, 10, 0], torch.full((4,), 3 * pixel), rtol=0.1)
    assert residual[:, 11].abs().max() < 1e-5


def test_absolute_copies_the_driver(model):
    driver, source = make_motion(8), make_motion(1)
    drive = retarget(driver, _avatar(source), RetargetOptions(mode="absolute", yaw_limit=None), model)
    assert torch.allclose(drive.pose.rotation, torch.from_numpy(driver.rotation), atol=1e-5)
    expected = torch.from_numpy(driver.expression).clamp(max=1)
    assert torch.allclose(drive.head.expression, torch.maximum(expected, model.expression_min), atol=1e-6)


def test_zero_scales_freeze_pose_and_expression(model):
    driver, source = make_motion(8), make_motion(1)
    driver = dataclasses.replace(driver, eye_open=np.linspace(0, 0.3, 16).reshape(8, 2).astype(np.float32))
    options = RetargetOptions(expression_scale=0, pose_scale=0)
    drive = retarget(driver, _avatar(source), options, model)
    assert torch.allclose(drive.pose.rotation, torch.from_numpy(source.rotation).expand(8, -1), atol=1e-5)
    assert torch.allclose(drive.head.expression, torch.from_numpy(source.expression).expand(8, -1), atol=1e-6)
    assert drive.eye_closed.abs().max() == 0


def test_yaw_stays_under_the_limit_and_small_turns_are_untouched(model):
    angles = np.radians([0, 5, 15, 40, -60]).astype(np.float32)
    rotation = np.stack([0 * angles, angles, 0 * angles], -1)
    driver = dataclasses.replace(make_motion(5), rotation=rotation, valid=np.ones(5, bool))
    source = dataclasses.replace(make_motion(1), rotation=np.zeros((1, 3), np.float32))
    drive = retarget(driver, _avatar(source), RetargetOptions(mode="absolute", yaw_limit=25), model)
    yaw = matrix_to_euler_degrees(axis_angle_to_matrix(drive.pose.rotation))[0]
    assert torch.allclose(yaw[:3], torch.tensor([0.0, 5, 15]), atol=1e-2)
    assert 20 < yaw[3] <= 25 and -25 <= yaw[4] < -20


def test_a_picture_as_driver_passes_on_its_whole_face(model):
    driver, source = make_motion(9)[8:], make_motion(1)
    drive = retarget(driver, _avatar(source), RetargetOptions(), model)
    assert torch.allclose(drive.head.expression, torch.from_numpy(driver.expression).clamp(0, 1), atol=1e-6)
    assert torch.allclose(drive.pose.rotation, torch.from_numpy(driver.rotation), atol=1e-4)


def test_another_head_model_is_refused(model):
    driver, source = make_motion(4, head_model="flame"), make_motion(1)
    with pytest.raises(ValueError, match="belongs to head model 'flame'"):
        retarget(driver, _avatar(source), RetargetOptions(), model)


def test_shut_eyes_of_a_source_are_left_alone(model):
    source = dataclasses.replace(make_motion(1), eye_open=np.full((1, 2), 0.05, np.float32))
    driver = dataclasses.replace(make_motion(6), eye_open=np.full((6, 2), 0.02, np.float32))
    assert retarget(driver, _avatar(source), RetargetOptions(), model).eye_closed.abs().max() == 0


@pytest.mark.parametrize("mode", ["relative", "absolute"])
def test_gaze_modes(model, mode):
    eyes = np.full((6, 2, 3), 0.2, np.float32)
    driver, source = dataclasses.replace(make_motion(6), eyes=eyes), make_motion(1)
    kept = retarget(driver, _avatar(source), RetargetOptions(gaze="source"), model)
    assert kept.head.eyes.abs().max() == 0
    followed = retarget(driver, _avatar(source), RetargetOptions(gaze="driver"), model)
    assert torch.allclose(followed.head.eyes, torch.from_numpy(eyes))
    held = retarget(driver, _avatar(source), RetargetOptions(gaze="camera", mode=mode), model)
    head, eye = axis_angle_to_matrix(held.pose.rotation), axis_angle_to_matrix(held.head.eyes[:, 0])
    forward = head @ eye @ torch.tensor([0, 0, 1.0])
    assert torch.allclose(forward, torch.tensor([0, 0, 1.0]).expand(6, 3), atol=2e-2)


def test_neutral_frame_is_the_quiet_one_with_open_eyes(model):
    motion = make_motion(9)
    expression = np.full((9, 9), 0.4, np.float32)
    expression[5] = 0.02
    eyes = np.full((9, 2), 0.3, np.float32)
    motion = dataclasses.replace(motion, expression=expression, eye_open=eyes, valid=np.ones(9, bool))
    assert find_neutral(motion) == 5
    shut = eyes.copy()
    shut[5] = 0.02
    expression = expression.copy()
    expression[2] = 0.03
    motion = dataclasses.replace(motion, expression=expression, eye_open=shut)
    assert find_neutral(motion) == 2


def test_long_clips_are_retargeted_in_parts_with_one_reference(model):
    driver, source = make_motion(30), make_motion(1)
    whole = retarget(driver, _avatar(source), RetargetOptions(), model)
    parts = list(retarget_parts(driver, _avatar(source), RetargetOptions(), model, size=7))
    assert [len(part) for part in parts] == [7, 7, 7, 7, 2]
    for values, *pieces in zip(whole.arrays(), *(part.arrays() for part in parts), strict=True):
        assert torch.allclose(values, torch.cat(pieces), atol=1e-6)


def test_a_long_clip_is_retargeted_only_as_far_as_it_is_read(model, monkeypatch):
    done = []
    inner = retarget_module.retarget_frames

    def spy(motion, *rest):
        done.append(len(motion))
        return inner(motion, *rest)

    monkeypatch.setattr(retarget_module, "retarget_frames", spy)
    parts = retarget_parts(make_motion(30), _avatar(make_motion(1)), RetargetOptions(), model, size=10)
    assert done == []
    next(parts)
    assert done == [10]


def test_a_clip_without_a_valid_frame_still_has_a_reference(model):
    driver = dataclasses.replace(make_motion(4), valid=np.zeros(4, bool))
    drive = retarget(driver, _avatar(make_motion(1)), RetargetOptions(), model)
    assert torch.isfinite(drive.head.expression).all() and torch.isfinite(drive.pose.translation).all()


def test_batches_hold_every_frame_once(model):
    driver = make_motion(11)
    drive = retarget(driver, _avatar(make_motion(1)), RetargetOptions(), model)
    parts = list(batches(drive, 4))
    assert [len(part) for part in parts] == [4, 4, 3]
    assert torch.equal(torch.cat([part.pose.rotation for part in parts]), drive.pose.rotation)


def test_orbit_turns_the_head_with_the_public_signs(model):
    source = make_motion(1)
    drive = orbit_drive(_avatar(source), model, np.array([20.0, 0]), np.array([0.0, 10]))
    nose = axis_angle_to_matrix(drive.pose.rotation) @ torch.tensor([0, 0, 1.0])
    assert nose[0, 0] > 0.3 and abs(nose[0, 1]) < 1e-5  # to the viewer's right
    assert nose[1, 1] > 0.1 and abs(nose[1, 0]) < 1e-5  # up
