"""The hidden side of a turned head, against the true picture of a toy person that turns."""

import dataclasses

import cv2
import numpy as np
import pytest
import skimage.data
import torch

from flame.errors import InputError
from flame.geometry.rotation import axis_angle_to_matrix, euler_degrees_to_matrix, matrix_to_axis_angle
from flame.landmarks.groups import NUM_MESH
from portrait4d.engines.lift.avatar import LiftAvatar
from portrait4d.engines.lift.engine import LiftEngine
from portrait4d.engines.lift.far_side import FarSide
from portrait4d.engines.retarget import RetargetOptions, retarget
from portrait4d.evaluation.pictures import psnr
from portrait4d.jobs.evaluation.material import in_crop
from preprocess.media.image import to_uint8
from preprocess.tracking.tracker import TrackedFrame, Tracker
from toy_views import placed, toy_views

ABSOLUTE = RetargetOptions(mode="absolute", yaw_limit=None)


@pytest.fixture(scope="module")
def engine() -> LiftEngine:
    return LiftEngine()


@pytest.fixture(scope="module")
def turned(engine: LiftEngine) -> list[TrackedFrame]:
    """A toy person turned by 30 degrees to the viewer's left, then from the front, in the crop of the first."""
    tracker = Tracker(head_model=engine.head_model)
    pictures = toy_views(engine.head_model, (-30.0, 0.0), seed=3, to_light=(0, 0.3, 1), ambient=0.5)
    frames = [tracker.track_image(picture) for picture in pictures]
    return [in_crop(frame, frames[0].crop, engine.head_model) for frame in frames]


@pytest.fixture(scope="module")
def avatar(engine: LiftEngine, turned: list[TrackedFrame]) -> LiftAvatar:
    return engine.build(turned[:1])


def _shown(engine: LiftEngine, avatar: LiftAvatar, frame: TrackedFrame) -> np.ndarray:
    drive = retarget(frame.motion, avatar, ABSOLUTE, engine.head_model)
    return to_uint8(engine.render(avatar, drive.replace(pose=placed(engine.head_model, avatar, frame))).image)[0]


def test_a_turned_source_turns_to_the_front_nearer_to_the_truth(engine, turned, avatar) -> None:
    none = FarSide.empty(engine.head_model.num_expression)
    truth = turned[1].crop.apply(turned[1].image)
    results = [_shown(engine, item, turned[1]) for item in (dataclasses.replace(avatar, far_side=none), avatar)]
    middle = int(turned[1].motion.landmarks[0, 1, 0])
    hull = cv2.convexHull(turned[1].motion.landmarks[0, :NUM_MESH, :2].round().astype(np.int32))
    face = cv2.fillConvexPoly(np.zeros(truth.shape[:2], np.uint8), hull, 1) > 0
    halves = []
    for columns in (slice(None, middle), slice(middle, None)):
        part = face[:, columns]
        halves.append([psnr(item[:, columns][part][None], truth[:, columns][part][None]) for item in results])
    (without, with_far), (near_without, near_with) = halves
    assert with_far > without + 2, halves
    assert near_with > near_without - 0.5, halves


def test_unmoved_and_turned_further_away_nothing_is_mirrored(engine, turned, avatar) -> None:
    still = retarget(turned[0].motion, avatar, ABSOLUTE, engine.head_model)
    shown = to_uint8(engine.render(avatar, still).image)[0]
    assert psnr(shown, turned[0].crop.apply(turned[0].image)) > 45
    turn = axis_angle_to_matrix(avatar.rig.source_rotation)
    steps = [euler_degrees_to_matrix(torch.tensor(yaw), torch.tensor(0.0), torch.tensor(0.0)) for yaw in (-20.0, 20.0)]
    away, towards = (matrix_to_axis_angle(step @ turn)[None] for step in steps)
    assert avatar.far_side.strength(avatar.rig, away).item() == 0
    assert avatar.far_side.strength(avatar.rig, towards).item() == 1


def test_the_mirrored_points_are_images_of_those_whose_pixels_they_show(engine, avatar) -> None:
    far, model = avatar.far_side, engine.head_model
    vertices = avatar.rig.patch_vertices
    assert torch.equal(model.mirror[vertices[far.far]], vertices[far.near])
    assert (model.template[vertices[far.far], 0] < 0.004).all()  # the subject's right is hidden
    points = far.points(avatar.rig, avatar.rig.rest[None], avatar.rig.source_expression[None])[0, len(far.far) :]
    mirrored = avatar.rig.rest[far.sheet] * torch.tensor([-1.0, 1.0, 1.0])
    # the sheet carries the other side's expression, which a neutral face has none of
    assert (points - mirrored).norm(dim=1).max() < 0.01
    names = model.expression_names
    assert names[int(far.swapped[names.index("mouthSmileLeft")])] == "mouthSmileRight"
    assert torch.equal(far.swapped[far.swapped], torch.arange(len(names)))


def test_an_avatar_file_keeps_the_far_side(engine, turned, avatar, tmp_path) -> None:
    avatar.save(tmp_path / "turned.safetensors")
    loaded = engine.load(tmp_path / "turned.safetensors")
    for name, value in vars(avatar.far_side).items():
        assert torch.equal(getattr(loaded.far_side, name), value), name
    apart = _shown(engine, loaded, turned[1]).astype(int) - _shown(engine, avatar, turned[1])
    assert np.abs(apart).max() <= 2


def test_a_frontal_photo_has_no_far_side_and_a_profile_is_refused(engine) -> None:
    source = Tracker(head_model=engine.head_model).track_image(skimage.data.astronaut())
    assert not len(engine.build([source]).far_side.faces)
    turn = euler_degrees_to_matrix(torch.tensor(65.0), torch.tensor(0.0), torch.tensor(0.0))
    rotation = matrix_to_axis_angle(turn)[None].numpy().astype(np.float32)
    profile = dataclasses.replace(source, motion=dataclasses.replace(source.motion, rotation=rotation))
    with pytest.raises(InputError, match="turned at most 55°.*got 65°.*use a photo from further in front"):
        engine.build([profile])
