"""Light that stays in the room, against the true pictures of a toy person who turns under one lamp."""

import dataclasses

import cv2
import numpy as np
import pytest
import torch

from flame.landmarks.groups import NUM_MESH
from portrait4d.engines.lift.avatar import LiftAvatar
from portrait4d.engines.lift.engine import LiftEngine
from portrait4d.engines.lift.lighting import (
    NUM_HARMONICS,
    first_order_light,
    fold_ratio,
    fold_shares,
    harmonics,
    light_asymmetry,
)
from portrait4d.engines.retarget import RetargetOptions, retarget
from portrait4d.jobs.evaluation.material import in_crop
from preprocess.media.image import to_uint8
from preprocess.tracking.tracker import TrackedFrame, Tracker
from toy_views import placed, toy_views

NO_LIGHT = torch.eye(1, NUM_HARMONICS)[0]


@pytest.fixture(scope="module")
def engine() -> LiftEngine:
    return LiftEngine()


@pytest.fixture(scope="module")
def frames(engine: LiftEngine) -> list[TrackedFrame]:
    """From the front, and turned by 30 degrees to both sides; the lamp stands at the viewer's right."""
    tracker = Tracker(head_model=engine.head_model)
    views = toy_views(engine.head_model, (0.0, -30.0, 30.0), seed=3, to_light=(1, 0.2, 0.5), ambient=0.25)
    tracked = [tracker.track_image(view) for view in views]
    return [in_crop(frame, tracked[0].crop, engine.head_model) for frame in tracked]


@pytest.fixture(scope="module")
def avatar(engine: LiftEngine, frames: list[TrackedFrame]) -> LiftAvatar:
    return engine.build(frames[:1])


def _smooth_error(engine: LiftEngine, avatar: LiftAvatar, frame: TrackedFrame) -> float:
    """Mean difference of blurred result and truth within the face, in levels."""
    drive = retarget(frame.motion, avatar, RetargetOptions(mode="absolute", yaw_limit=None), engine.head_model)
    drive = drive.replace(pose=placed(engine.head_model, avatar, frame))
    shown, truth = to_uint8(engine.render(avatar, drive).image)[0], frame.crop.apply(frame.image)
    hull = cv2.convexHull(frame.motion.landmarks[0, :NUM_MESH, :2].round().astype(np.int32))
    face = cv2.fillConvexPoly(np.zeros(truth.shape[:2], np.uint8), hull, 1)
    face = cv2.erode(face, np.ones((15, 15), np.uint8)) > 0
    first, second = (cv2.GaussianBlur(item.astype(np.float32), (0, 0), 8) for item in (shown, truth))
    return float(np.abs(first - second)[face].mean())


@pytest.mark.parametrize("index", [1, 2])
def test_one_sided_light_stays_in_the_room_when_the_head_turns(engine, frames, avatar, index: int) -> None:
    carried = _smooth_error(engine, dataclasses.replace(avatar, light=NO_LIGHT), frames[index])
    kept = _smooth_error(engine, avatar, frames[index])
    mirrored = avatar.light * harmonics(torch.tensor([-1.0, 1.0, 1.0])).sign()
    wrong = _smooth_error(engine, dataclasses.replace(avatar, light=mirrored), frames[index])
    assert kept < 0.45 * carried < 0.45 * wrong, (kept, carried, wrong)


def test_the_lamp_is_found_on_its_side(avatar) -> None:
    sides = torch.tensor([[0.7, 0.0, 0.71], [-0.7, 0.0, 0.71]])
    bright, dark = (harmonics(sides) @ avatar.light).tolist()
    assert bright > 1.5 * dark
    assert light_asymmetry(avatar.light.numpy()) > 0.3
    assert light_asymmetry(NO_LIGHT.numpy()) == 0


def test_the_light_of_older_files_is_taken_over() -> None:
    old = torch.tensor([0.9, 0.1, -0.05, 0.15])
    normals = torch.nn.functional.normalize(torch.tensor([[0.3, 0.2, 1.0], [-0.5, 0.0, 1.0]]), dim=-1)
    wanted = (old[0] + normals @ old[1:]) ** 2.2
    assert (harmonics(normals) @ first_order_light(old) - wanted).abs().max() < 0.06


def test_folds_are_shaded_away_from_the_lids_only():
    points = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.016, 0.0], [0.0, 0.03, 0.0]])
    shares = fold_shares(points, points[:1])
    assert shares.tolist() == pytest.approx([0.0, 0.5, 1.0], abs=1e-5)
    from_above = torch.tensor([1.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    facing, raised = torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.0, 0.6, 0.8])
    ratio = fold_ratio(from_above, facing.expand(1, 3, 3), raised.expand(1, 3, 3), shares)[0]
    assert ratio[0] == 1 and 1 < ratio[1] < ratio[2]
