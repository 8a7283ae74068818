"""The embedded engine on a real face: the public-domain portrait that scikit-image carries."""

import dataclasses

import numpy as np
import pytest
import skimage.data
import torch

from flame.geometry.rotation import axis_angle_to_matrix, matrix_to_euler_degrees
from flame.landmarks.groups import EYE_CORNERS, FOREHEAD, INNER_LIP_MIDDLES, IRIS_CENTRES
from portrait4d.engines.base import Drive
from portrait4d.engines.lift.avatar import LiftAvatar
from portrait4d.engines.lift.bind import patch_faces, residual_weights
from portrait4d.engines.lift.engine import LiftEngine, source_warnings
from portrait4d.engines.lift.mouth_photo import teeth_colour
from portrait4d.engines.own_drive import orbit_drive
from portrait4d.engines.retarget import RetargetOptions, retarget
from preprocess.media.image import to_uint8
from preprocess.tracking.tracker import Tracker


@pytest.fixture(scope="module")
def engine():
    return LiftEngine()


@pytest.fixture(scope="module")
def tracker(engine):
    return Tracker(head_model=engine.head_model)


@pytest.fixture(scope="module")
def source(tracker):
    return tracker.track_image(skimage.data.astronaut())


@pytest.fixture(scope="module")
def avatar(engine, source):
    return engine.build([source])


@pytest.fixture(scope="module")
def still(engine, source, avatar):
    return retarget(source.motion, avatar, RetargetOptions(), engine.head_model)


def _set(engine, drive, **values):
    expression = drive.head.expression.clone()
    for name, value in values.items():
        for index, full in enumerate(engine.head_model.expression_names):
            if full.startswith(name):
                expression[:, index] = value
    return drive.replace(head=drive.head.replace(expression=expression))


def _psnr(first, second):
    error = np.square(first.astype(float) - second.astype(float)).mean()
    return 10 * np.log10(255**2 / max(error, 1e-12))


def _tracked(tracker, rendering):
    return tracker.track_image(to_uint8(rendering.image)[0])


def test_no_motion_draws_the_photo(engine, source, avatar, still):
    drawn = to_uint8(engine.render(avatar, still).image)[0]
    assert _psnr(drawn, source.crop.apply(source.image)) > 60


def test_a_batch_is_its_frames(engine, avatar, still):
    opened = _set(engine, still, jawOpen=0.6)
    both = Drive.concatenate([still, opened])
    batch = engine.render(avatar, both).image
    assert (batch[:1] - engine.render(avatar, still).image).abs().max() < 1e-4
    assert (batch[1:] - engine.render(avatar, opened).image).abs().max() < 1e-4


def test_a_saved_avatar_draws_the_same(engine, avatar, still, tmp_path):
    path = tmp_path / "a.safetensors"
    avatar.save(path)
    again = engine.load(path)
    assert isinstance(again, LiftAvatar) and again.motion.head_model == avatar.motion.head_model
    moved = _set(engine, still, jawOpen=0.5)
    assert (engine.render(again, moved).image - engine.render(avatar, moved).image).abs().max() < 4e-3
    assert path.stat().st_size < 40e6


def test_an_avatar_file_that_is_none_is_refused(engine, tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="not a readable avatar"):
        engine.load(path)
    with pytest.raises(ValueError, match="no avatar file"):
        engine.load(tmp_path / "b.safetensors")


@pytest.mark.parametrize("yaw", [-15.0, 15.0])
def test_the_head_turns_as_asked(engine, tracker, avatar, yaw):
    drive = orbit_drive(avatar, engine.head_model, np.array([yaw]), np.array([0.0]))
    seen = _tracked(tracker, engine.render(avatar, drive)).motion
    measured = matrix_to_euler_degrees(axis_angle_to_matrix(torch.from_numpy(seen.rotation)))[0]
    assert abs(float(measured[0]) - yaw) < 5


def test_the_mouth_opens_and_the_lids_shut(engine, tracker, avatar, still):
    names = engine.head_model.expression_names
    wide = _tracked(tracker, engine.render(avatar, _set(engine, still, jawOpen=0.8))).motion
    assert wide.expression[0, names.index("jawOpen")] > avatar.motion.expression[0, names.index("jawOpen")] + 0.2
    shut = _tracked(tracker, engine.render(avatar, dataclasses.replace(still, eye_closed=torch.ones(1, 2)))).motion
    assert (shut.eye_open < 0.6 * avatar.motion.eye_open).all()


def test_gaze_moves_the_irises_to_where_the_eyes_turn(engine, tracker, avatar, still):
    turned = still.replace(head=still.head.replace(eyes=still.head.eyes + torch.tensor([0.0, 0.3, 0.0])))
    before = _tracked(tracker, engine.render(avatar, still)).landmarks.points
    after = _tracked(tracker, engine.render(avatar, turned)).landmarks.points
    for side, iris in IRIS_CENTRES.items():
        corners = EYE_CORNERS[side]
        width = np.linalg.norm(before[corners[0], :2] - before[corners[1], :2])
        shift = (after[iris] - before[iris] - (after[list(corners)] - before[list(corners)]).mean(0))[0]
        assert 0.04 * width < shift < 0.3 * width  # +y turns the eyes to the viewer's right


def test_nothing_else_moves_when_the_mouth_does(engine, avatar, still):
    difference = (engine.render(avatar, _set(engine, still, jawOpen=0.6)).image - engine.render(avatar, still).image)[0]
    landmarks = avatar.motion.landmarks[0]
    brow_y, side = int(landmarks[FOREHEAD, 1]), avatar.crop.size
    assert difference[:, : brow_y // 2].abs().mean() < 1e-3
    assert difference[:, side // 2 :, side // 3 : 2 * side // 3].abs().mean() > 1e-2


def test_torch_and_numba_draw_the_same_frame(engine, avatar, still, monkeypatch):
    import flame.mesh.raster
    from portrait4d.engines.lift import draw

    drive = _set(engine, still, jawOpen=0.4)
    fast = engine.render(avatar, drive).image
    monkeypatch.setattr(draw, "_shade_numba", lambda *arrays: _through_torch(draw, *arrays))
    monkeypatch.setattr(flame.mesh.raster, "_best_backend", lambda device: "torch")
    slow = engine.render(avatar, drive).image
    assert (fast - slow).abs().mean() < 2e-4


def _through_torch(draw, face_id, barycentric, screen, faces, uv, gain, texture):
    tensors = [torch.from_numpy(array) for array in (face_id, barycentric, screen, faces, uv, gain, texture)]
    fragments = draw.Fragments(tensors[0], tensors[1], tensors[0].float())
    return draw.shade(fragments, *tensors[2:], backend="torch").numpy()


def test_landmark_weights_interpolate_at_landmarks_and_keep_lips_apart(engine):
    model = engine.head_model
    vertices = torch.unique(patch_faces(model)).numpy()
    weights = residual_weights(model, vertices)
    rest = model.shaped(torch.zeros(1, model.num_shape), torch.zeros(1, model.num_expression))
    nearest = torch.cdist(model.landmarks(rest)[0, list(INNER_LIP_MIDDLES)], rest[0, vertices]).argmin(1)
    upper, lower = weights[nearest]
    above, below = INNER_LIP_MIDDLES
    assert upper[above] > 0.4 and lower[below] > 0.4
    assert abs(upper[below]) < 0.1 and abs(lower[above]) < 0.1
    assert np.abs(weights.sum(1)).max() < 1.5


def test_mesh_lies_in_front_of_the_camera_with_coordinates_in_the_texture(engine, avatar):
    mesh = engine.mesh(avatar)
    assert mesh.faces.max() < len(mesh.vertices) and len(mesh.faces) > 3000
    assert mesh.uv.min() >= 0 and mesh.uv.max() <= 1
    height = np.ptp(mesh.vertices[:, 1])
    assert 0.15 < height < 0.8  # metres: head to chest


def test_hard_sources_are_warned_of(avatar):
    even, hard = np.array([1, 0, 0, 0.2, *[0] * 5], np.float32), np.array([0.8, 0.9, 0, 0.1, *[0] * 5], np.float32)
    frontal = dataclasses.replace(avatar.motion, rotation=np.zeros((1, 3), np.float32))
    assert source_warnings(frontal, even) == []
    assert "one-sided" in source_warnings(frontal, hard)[0]
    turned = dataclasses.replace(frontal, rotation=np.array([[0, np.radians(40), 0]], np.float32))
    assert "turned 40" in source_warnings(turned, even)[0]
    asleep = dataclasses.replace(frontal, eye_open=np.full((1, 2), 0.05, np.float32))
    assert "shut" in source_warnings(asleep, even)[0]


def test_own_teeth_are_found_in_a_smile_and_not_in_closed_lips():
    photo = np.full((120, 120, 3), (0.7, 0.4, 0.38), np.float32)
    angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    smile = np.stack([60 + 30 * np.cos(angle), 60 + 8 * np.sin(angle)], -1)
    assert teeth_colour(photo, smile) is None  # lip colour inside: no teeth
    photo[50:70, 30:90] = (0.85, 0.82, 0.76)
    colour = teeth_colour(photo, smile)
    assert colour is not None and np.allclose(colour, (0.85, 0.82, 0.76), atol=0.02)
    closed = np.stack([60 + 30 * np.cos(angle), 60 + 0.5 * np.sin(angle)], -1)
    assert teeth_colour(photo, closed) is None


def test_a_damaged_avatar_is_refused(avatar, engine, tmp_path):
    from safetensors import safe_open
    from safetensors.torch import save_file

    path = tmp_path / "a.safetensors"
    avatar.save(path)
    with safe_open(str(path), framework="pt") as file:
        header, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    tensors.pop("rig.rest")
    save_file(tensors, path, metadata=header)
    with pytest.raises(ValueError, match="incomplete avatar file"):
        engine.load(path)
