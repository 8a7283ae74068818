"""Toy datasets: the same bytes however they are built, and pictures that show what their records say."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from flame.errors import InputError
from flame.geometry.camera import Camera
from flame.geometry.rotation import axis_angle_to_matrix
from flame.heads.head_model import HeadParams
from flame.heads.open_head import OpenHead, load_open_head
from flame.landmarks.groups import EYE_POINTS, INNER_LIPS, IRIS_CENTRES, RIGHT_BROW
from flame.mesh.raster import rasterize
from places import ROOT
from preprocess.dataset.building.build import check_dataset
from preprocess.dataset.reading.balance import yaw_degrees
from preprocess.dataset.reading.dataset import Dataset, collate
from preprocess.dataset.reading.flip import flip_record, open_head_mirror
from preprocess.dataset.records.record import Record
from preprocess.dataset.records.record_codec import encode_record
from preprocess.dataset.records.shards import index_path
from preprocess.dataset.toy import population
from preprocess.dataset.toy.build import build_toy_faces
from preprocess.dataset.toy.options import ToyOptions
from preprocess.dataset.toy.population import Person, draw_person
from preprocess.dataset.toy.records import DISTANCE, FOV_DEGREES, PIVOT, ToyRecords, toy_info
from preprocess.dataset.toy.render import ToyRenderer
from preprocess.tracking.motion import Motion

MOTION_FILE = ROOT / "portrait4d" / "assets" / "demo_motion.npz"
SMALL = ToyOptions(num_identities=5, pictures_per_identity=2, size=32, oversampling=2, identities_per_shard=2, seed=3)
IRISES = tuple(IRIS_CENTRES.values())
EYES = {IRIS_CENTRES[side]: EYE_POINTS[side] for side in IRIS_CENTRES}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    build_toy_faces(folder, SMALL)
    return folder


@pytest.fixture(scope="module")
def model() -> OpenHead:
    return load_open_head()


@pytest.fixture(scope="module")
def records() -> list[Record]:
    make = ToyRecords(ToyOptions(size=64))
    return [record for identity in range(12) for record in make(identity)]


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.mark.slow
def test_two_workers_make_the_bytes_of_one(built: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    build_toy_faces(tmp_path, SMALL, num_workers=2, progress=lambda done, total: told.append((done, total)))
    assert _digests(tmp_path) == _digests(built) and len(_digests(built)) == 7
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_what_is_missing_is_made_again_and_nothing_else(built: Path, tmp_path: Path) -> None:
    for path in built.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    shards = sorted(tmp_path.glob("*.tar"))
    shards[0].unlink()
    index_path(shards[2]).unlink()  # as if killed between the shard and its index
    kept = shards[1].stat().st_mtime_ns
    told: list[tuple[int, int]] = []
    assert build_toy_faces(tmp_path, SMALL, progress=lambda done, total: told.append((done, total))) == shards
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert _digests(tmp_path) == _digests(built) and shards[1].stat().st_mtime_ns == kept
    assert check_dataset(tmp_path) == (3, [])


def test_other_settings_are_refused(built: Path) -> None:
    with pytest.raises(InputError, match="begun with other settings .seed."):
        build_toy_faces(built, ToyOptions(**{**SMALL.__dict__, "seed": 4}))
    with pytest.raises(InputError, match="expected size of 1 or more, got 0"):
        ToyOptions(size=0)


def test_the_seed_and_the_number_make_the_person() -> None:
    def content(seed: int, identity: int) -> list[bytes]:
        options = ToyOptions(size=16, oversampling=1, pictures_per_identity=2, seed=seed)
        return [part for record in ToyRecords(options)(identity) for part in encode_record(record).values()]

    assert content(1, 0) == content(1, 0)
    assert not set(content(1, 0)[:3]) & set(content(2, 0)[:3]) and not set(content(1, 0)[:3]) & set(content(1, 1)[:3])


def test_training_reads_it_like_photos(built: Path) -> None:
    dataset = Dataset(built, mirror=open_head_mirror())
    assert len(dataset) == 2 * 10 and dataset.info == toy_info(SMALL) and dataset.info.head_model == "open"
    batch = collate([dataset[index] for index in (0, 1, 10)])
    assert batch.image.shape == (3, 32, 32, 3) and batch.landmarks.shape == (3, 478, 3)
    assert len({key[:16] for key in batch.keys}) == 1 and torch.equal(batch.shape[0], batch.shape[1])
    assert dataset[9].source == "toy-3-000004"


def test_camera_and_neck_say_the_same_turn(records: list[Record]) -> None:
    for record in records:
        camera = Camera.from_label25(torch.from_numpy(record.camera)[None], axes="opengl")
        turn = axis_angle_to_matrix(torch.from_numpy(record.neck)[None])
        torch.testing.assert_close(camera.world2cam[:, :3, :3], turn, atol=1e-5, rtol=0)
        pixel, depth = camera.project(3 * torch.tensor([[PIVOT]]), height=64, width=64)
        torch.testing.assert_close(pixel, torch.full((1, 1, 2), 32.0), atol=1e-3, rtol=0)
        assert float(depth) == pytest.approx(3 * DISTANCE, abs=1e-4) and pytest.approx(4.2) == 3 * DISTANCE
        assert 2 * np.degrees(np.arctan(0.5 / record.camera[16])) == pytest.approx(FOV_DEGREES, abs=1e-3)
    yaws = yaw_degrees(np.array([record.camera for record in records]))
    np.testing.assert_allclose(yaws, [record.quality["yaw_degrees"] for record in records], atol=0.01)


def _seen(model: OpenHead, record: Record, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Landmarks and vertices in px, from what the record says."""
    head = record.head.replace(neck=np.zeros(3, np.float32)).map(lambda array: torch.from_numpy(array)[None])
    vertices = model(head)
    camera = Camera.from_label25(torch.from_numpy(record.camera)[None], axes="opengl")
    (marks, _), (pixels, depth) = (
        camera.project(3 * points, height=size, width=size) for points in (model.landmarks(vertices), vertices)
    )
    return marks[0], torch.cat([pixels[0], depth[0, :, None]], 1)


def test_the_head_of_the_record_covers_the_mask(model: OpenHead, records: list[Record]) -> None:
    for record in records:
        _, points = _seen(model, record, 64)
        drawn = (rasterize(points, model.faces, height=64, width=64).face_id >= 0).numpy()
        mask = record.mask >= 128
        assert (drawn & mask).sum() / (drawn | mask).sum() > 0.9


def test_landmarks_are_those_of_the_head(model: OpenHead, records: list[Record]) -> None:
    for record in records:
        marks, _ = _seen(model, record, 64)
        np.testing.assert_allclose(record.landmarks[:, :2], marks.numpy(), atol=0.01)
    mirrored = flip_record(records[0], open_head_mirror())
    marks, _ = _seen(model, mirrored, 64)
    # the marks of the skin are symmetric to a millimetre, a fifth of a pixel
    np.testing.assert_allclose(mirrored.landmarks[:, :2], marks.numpy(), atol=0.5)


def test_open_eyes_are_dark_where_the_iris_is() -> None:
    make, checked = ToyRecords(ToyOptions(size=160, oversampling=2)), 0
    for record in (record for identity in range(10) for record in make(identity)):
        light = record.image.mean(2)
        for iris in IRISES:
            outer, inner, upper, lower = record.landmarks[list(EYES[iris]), :2]
            is_open = lower[1] - upper[1] > 0.2 * np.linalg.norm(outer - inner)
            column, row = (int(value) for value in record.landmarks[iris, :2] - 0.5)
            is_seen = upper[1] + 1 < row < lower[1] - 1 and abs(record.quality["yaw_degrees"]) < 30
            if not is_open or not is_seen:
                continue
            left, right = sorted((int(outer[0]), int(inner[0])))
            pupil = light[row : row + 2, column : column + 2].min()
            assert pupil < 0.3 * light[row - 1 : row + 2, left : right + 1].max()
            checked += 1
    assert checked >= 10


def _picture(model: OpenHead, person: Person, **changes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A frontal picture of 64 px and the landmarks of the same face at rest, in light from the front."""
    camera = Camera.orbit(
        torch.zeros(1), torch.zeros(1), radius=DISTANCE, target=torch.tensor(PIVOT), fov_degrees=FOV_DEGREES
    )
    rest = HeadParams.zeros(model)
    head = rest.replace(**{name: torch.from_numpy(value)[None] for name, value in changes.items()})
    image, _ = ToyRenderer(model, size=64, oversampling=3)(model(head)[0].numpy(), camera, person)
    marks, _ = camera.project(model.landmarks(model(rest)), height=64, width=64)
    return image.astype(np.float32).mean(2), marks[0].numpy()


def _action(model: OpenHead, *names: str) -> np.ndarray:
    expression = np.zeros(model.num_expression, np.float32)
    expression[[model.expression_names.index(name) for name in names]] = 1
    return expression


def test_every_action_can_be_read_at_64_pixels(model: OpenHead) -> None:
    """Grey levels, summed over the part that acts and over the rest of the face."""
    person = draw_person(model, np.random.default_rng(0))
    rest, marks = _picture(model, person)
    changes = {
        "mouth": {"expression": population.JAW_OPEN * _action(model, "jawOpen")},
        "smile": {"expression": _action(model, "mouthSmileLeft", "mouthSmileRight")},
        "eyes": {"expression": _action(model, "eyeBlinkLeft", "eyeBlinkRight")},
        "brows": {"expression": _action(model, "browInnerUp", "browOuterUpLeft", "browOuterUpRight")},
    }
    eye_row, brow_row, mouth_row = marks[list(IRISES), 1].mean(), marks[RIGHT_BROW[7], 1], marks[INNER_LIPS[15], 1]
    rows = {"mouth": mouth_row + 2, "smile": mouth_row, "eyes": eye_row, "brows": brow_row}
    for name, change in changes.items():
        difference = np.abs(_picture(model, person, **change)[0] - rest)
        assert difference.max() > 25, name
        middle = (difference.sum(1) * (np.arange(64) + 0.5)).sum() / difference.sum()
        assert abs(middle - rows[name]) < 5, name


def test_the_gaze_can_be_read_at_64_pixels(model: OpenHead) -> None:
    person = draw_person(model, np.random.default_rng(0))
    _, marks = _picture(model, person)
    places = []
    for turn in (-population.GAZE_YAW, 0, population.GAZE_YAW):
        light, _ = _picture(model, person, eyes=np.tile(np.array([0, turn, 0], np.float32), (2, 1)))
        for iris in IRISES:
            outer, inner, upper, lower = marks[list(EYES[iris]), :2]
            left, right = sorted((int(outer[0]), int(inner[0])))
            dark = light[round(upper[1]) : round(lower[1]) + 1, left : right + 1]
            dark = dark.max() - dark.mean(0)
            places.append((dark * np.arange(len(dark))).sum() / dark.sum())
    table = np.array(places).reshape(3, 2)
    assert (np.diff(table, axis=0) > 0.1).all()  # to the subject's left is to the right of the picture


def test_people_may_follow_a_tracked_motion(tmp_path: Path) -> None:
    """Expressions and eyes are the motion's, in the order of its frames; heads turn as it does, from a side each."""
    motion = Motion.load(MOTION_FILE)
    options = ToyOptions(
        num_identities=2, pictures_per_identity=4, size=32, oversampling=1, motions=(str(MOTION_FILE),)
    )
    make = ToyRecords(options)
    for identity in range(2):
        records = make(identity)
        frames = [int(np.flatnonzero((motion.expression == record.expression).all(1))[0]) for record in records]
        assert frames == sorted(frames) and len(set(frames)) == 4
        assert all(np.array_equal(record.eyes, motion.eyes[at]) for record, at in zip(records, frames, strict=True))
        turned = np.stack([axis_angle_to_matrix(torch.from_numpy(record.neck)).numpy() for record in records])
        tracked = axis_angle_to_matrix(torch.from_numpy(motion.rotation[frames])).numpy()
        between = [matrix @ turned[0].T for matrix in turned], [matrix @ tracked[0].T for matrix in tracked]
        assert np.abs(np.array(between[0]) - np.array(between[1])).max() < 0.1  # about an axis turned with the offset
        assert np.abs(turned - tracked).max() > 0.02
    assert options.settings["motions"] != ToyOptions(motions=()).settings.get("motions")
    broken = tmp_path / "none.npz"
    replace(motion, valid=np.zeros(len(motion), bool)).save(broken)
    with pytest.raises(InputError, match="frames with a face"):
        ToyRecords(replace(options, motions=(str(broken),)))(0)
