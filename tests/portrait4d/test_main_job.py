"""The main job with the embedded engine and the real tracker, on material made by script: no reference material.

What each test covers, all through the command line:

- `test_track_follows_the_clip`: clip -> motion file, with the movement that was put into the clip
- `test_a_clip_drives_with_its_sound`: reenact from a clip
- `test_the_result_sways_like_the_clip`: reenact from the motion file of a clip
- `test_a_picture_drives_one_frame`: reenact from a picture to a picture
- `test_the_tracker_finds_what_was_drawn`: tracking, on renders of the open head whose pose and expression are known
- `test_no_motion_draws_the_photo_itself`: reenact from the motion of the photo itself
- `test_a_folder_of_frames_drives_as_its_clip_does`: reenact from a folder of frames
- `test_a_motion_file_turns_the_head_and_opens_the_mouth`: reenact from a motion file
- `test_panels_show_source_driver_and_result`: --side-by-side
- `test_pasted_back_only_the_head_moves`: --paste-back
- `test_a_batch_keeps_what_is_done`: batch, and again
- `test_a_saved_avatar_drives_as_its_photo_does`: avatar, and reenact from it
- `test_views_turn_the_head`, `test_a_mesh_is_a_head_in_metres`: render
- `test_a_photo_becomes_a_record`, `test_a_clip_becomes_records`: data ffhq, data video

`test_no_test_here_needs_the_reference_material` keeps it so.
"""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial.transform import Rotation

from flame.geometry.rotation import axis_angle_to_matrix, matrix_to_euler_degrees
from free_material import (
    FRAME_RATE,
    HEIGHT,
    JAW_OPEN,
    NUM_FRAMES,
    ROLL_DEGREES,
    SHIFT_PX,
    WIDTH,
    YAW_DEGREES,
    FreeMaterial,
    turned_motion,
)
from portrait4d.cli.main import run
from portrait4d.options import ReenactOptions
from portrait4d.pipeline import track_driver
from portrait4d.reenactment.models import Models, load_models
from preprocess.dataset.reading.dataset import find_shards
from preprocess.dataset.records.shards import read_shard
from preprocess.dataset.toy.options import ToyOptions
from preprocess.dataset.toy.records import ToyRecords
from preprocess.media.image import read_image
from preprocess.media.video import probe, read_frames
from preprocess.tracking.motion import Motion

SIZE = 512
"""Side of a head crop, px."""

OPEN_HEADS = ToyRecords(ToyOptions(num_identities=2, pictures_per_identity=4, size=384, oversampling=1, seed=5))
"""Makes renders of a person, with what was drawn."""


@pytest.fixture(scope="module")
def models() -> Models:
    return load_models(ReenactOptions(engine="lift"))


@pytest.fixture(scope="module")
def motion_file(free: FreeMaterial, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("motion") / "sway.npz"
    _run("track", free.clip, "-o", path)
    return path


@pytest.fixture(scope="module")
def result(free: FreeMaterial, motion_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the clip's motion makes of the photo."""
    path = tmp_path_factory.mktemp("result") / "result.mp4"
    _run("reenact", free.photo, motion_file, "-o", path)
    return path


@pytest.fixture(scope="module")
def avatar_file(free: FreeMaterial, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("avatar") / "head.safetensors"
    _run("avatar", free.photo, "-o", path)
    return path


def test_track_follows_the_clip(motion_file: Path) -> None:
    motion = Motion.load(motion_file)
    assert len(motion) == NUM_FRAMES and motion.frame_rate == FRAME_RATE and motion.valid.all()
    _yaw, _pitch, roll = _angles(motion)
    assert _slope(ROLL_DEGREES, roll) == pytest.approx(1, abs=0.15)
    # the head is drawn around the picture's middle, its origin lies elsewhere: the landmarks' mean is moved with it
    centre = motion.landmarks[..., :2].mean(1) @ np.linalg.inv(motion.crop_matrix)[:2, :2].T
    lever = (centre[0] + np.linalg.inv(motion.crop_matrix)[:2, 2] - (WIDTH / 2, HEIGHT / 2))[1]
    expected = SHIFT_PX - lever * np.sin(np.radians(ROLL_DEGREES))
    assert _slope(expected, centre[:, 0]) == pytest.approx(1, abs=0.15)


def test_a_clip_drives_with_its_sound(free: FreeMaterial, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = _report(capsys, "reenact", free.photo, free.clip, "-o", tmp_path / "out.mp4")
    assert report["has_audio"] and report["num_frames"] == NUM_FRAMES and report["engine"] == "lift"
    info = probe(tmp_path / "out.mp4")
    assert info.has_audio and info.frame_rate == FRAME_RATE and (info.height, info.width) == (SIZE, SIZE)
    assert len(_frames(tmp_path / "out.mp4")) == NUM_FRAMES


def test_the_result_sways_like_the_clip(result: Path, models: Models) -> None:
    assert probe(result).has_audio  # of the clip, which the motion file remembers
    _yaw, _pitch, roll = _angles(track_driver(result, models=models))
    assert _slope(ROLL_DEGREES, roll) == pytest.approx(1, abs=0.2)


def test_a_picture_drives_one_frame(free: FreeMaterial, tmp_path: Path, models: Models) -> None:
    turned = NUM_FRAMES // 4
    _run("reenact", free.photo, free.frames / f"{turned:02d}.png", "-o", tmp_path / "out.png")
    assert read_image(tmp_path / "out.png").shape == (SIZE, SIZE, 3)
    before, after = (_angles(track_driver(path, models=models))[2][0] for path in (free.photo, tmp_path / "out.png"))
    assert after - before == pytest.approx(ROLL_DEGREES[turned], abs=2)


def test_the_tracker_finds_what_was_drawn(models: Models) -> None:
    """Renders of two people with known turns and mouths; smiles are found at about half their strength."""
    records = [record for person in range(2) for record in OPEN_HEADS(person)]
    frames = [models.tracker.track_image(record.image).motion for record in records]
    names = models.tracker.head_model.expression_names
    turned = [
        np.degrees((Rotation.from_rotvec(frame.rotation[0]) * Rotation.from_rotvec(record.neck).inv()).magnitude())
        for frame, record in zip(frames, records, strict=True)
    ]
    assert max(turned) < 8 and np.median(turned) < 4
    for name, least in (("jawOpen", 0.9), ("mouthSmileLeft", 0.8)):
        column = names.index(name)
        found, drawn = ([float(each[column]) for each in rows] for rows in (
            [frame.expression[0] for frame in frames], [record.expression for record in records]
        ))  # fmt: skip
        assert np.corrcoef(found, drawn)[0, 1] > least, name


def test_no_motion_draws_the_photo_itself(free: FreeMaterial, tmp_path: Path, models: Models) -> None:
    photo = read_image(free.photo)
    frame = models.tracker.track_image(photo)
    frame.motion.save(tmp_path / "still.npz")
    _run("reenact", free.photo, tmp_path / "still.npz", "-o", tmp_path / "out.png")
    assert _psnr(read_image(tmp_path / "out.png"), frame.crop.apply(photo)) > 50


def test_a_folder_of_frames_drives_as_its_clip_does(free: FreeMaterial, result: Path, tmp_path: Path) -> None:
    _run("reenact", free.photo, free.frames, "-o", tmp_path / "out.mp4")
    assert not probe(tmp_path / "out.mp4").has_audio
    ours, expected = _frames(tmp_path / "out.mp4"), _frames(result)
    assert len(ours) == len(expected) == NUM_FRAMES
    assert min(map(_psnr, ours, expected)) > 28 > _psnr(ours[3], expected[9])


def test_a_motion_file_turns_the_head_and_opens_the_mouth(free: FreeMaterial, tmp_path: Path, models: Models) -> None:
    turned_motion(track_driver(free.photo, models=models), models.head_model).save(tmp_path / "turn.npz")
    _run("reenact", free.photo, tmp_path / "turn.npz", "-o", tmp_path / "out.mp4")
    seen = track_driver(tmp_path / "out.mp4", models=models)
    assert len(seen) == NUM_FRAMES and seen.valid.all()
    assert _slope(YAW_DEGREES, _angles(seen)[0]) == pytest.approx(1, abs=0.25)
    jaw = seen.expression[:, models.head_model.expression_names.index("jawOpen")]
    assert jaw[NUM_FRAMES // 2] - jaw[0] > 0.2 and np.corrcoef(jaw, JAW_OPEN)[0, 1] > 0.9


@pytest.mark.slow
def test_panels_show_source_driver_and_result(free: FreeMaterial, result: Path, tmp_path: Path) -> None:
    _run("reenact", free.photo, free.clip, "-o", tmp_path / "out.mp4", "--side-by-side")
    panels = np.stack(_frames(tmp_path / "out.mp4"))
    assert panels.shape == (NUM_FRAMES, SIZE, 3 * SIZE, 3) and probe(tmp_path / "out.mp4").has_audio
    source, driver, ours = np.split(panels.astype(float), 3, axis=2)
    assert np.abs(source - source[0]).mean() < 2 < np.abs(driver - driver[0]).mean()
    assert min(map(_psnr, ours, _frames(result))) > 28


def test_pasted_back_only_the_head_moves(free: FreeMaterial, motion_file: Path, tmp_path: Path) -> None:
    _run("reenact", free.photo, motion_file, "-o", tmp_path / "out.mp4", "--paste-back")
    frames = np.stack(_frames(tmp_path / "out.mp4")).astype(float)
    assert frames.shape == (NUM_FRAMES, HEIGHT, WIDTH, 3)
    change = np.abs(frames - read_image(free.photo)).mean((0, 3))
    face, edge = change[100:180, 100:170], change[:, :8]
    assert face.mean() > 3 * edge.mean() and edge.mean() < 4


def test_a_batch_keeps_what_is_done(free: FreeMaterial, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("batch", free.photo, free.clip, "-o", tmp_path / "out")
    first = _report(capsys, *arguments)
    (written,) = (tmp_path / "out").glob("*.mp4")
    assert written.name == "photo__sway.mp4" and probe(written).has_audio
    assert len(_frames(written)) == NUM_FRAMES
    before = written.stat().st_mtime_ns
    second = _report(capsys, *arguments)
    assert [item["state"] for report in (first, second) for item in report["results"]] == ["done", "kept"]
    assert written.stat().st_mtime_ns == before


def test_a_saved_avatar_drives_as_its_photo_does(
    avatar_file: Path, motion_file: Path, result: Path, tmp_path: Path
) -> None:
    _run("reenact", avatar_file, motion_file, "-o", tmp_path / "out.mp4")
    assert min(map(_psnr, _frames(tmp_path / "out.mp4"), _frames(result))) > 40


def test_views_turn_the_head(avatar_file: Path, tmp_path: Path, models: Models) -> None:
    _run("render", avatar_file, "-o", tmp_path / "view.png", "--yaw=-15,0,15")
    views = sorted(tmp_path.glob("*.png"))
    assert len(views) == 3
    for path in views:
        (asked,) = re.findall(r"yaw([+-]\d+)", path.name)
        assert _angles(track_driver(path, models=models))[0][0] == pytest.approx(float(asked), abs=5)


def test_a_mesh_is_a_head_in_metres(avatar_file: Path, tmp_path: Path) -> None:
    _run("render", avatar_file, "-o", tmp_path / "head.ply")
    mesh = trimesh.load(tmp_path / "head.ply", force="mesh")
    assert len(mesh.faces) > 1000
    assert (mesh.extents > 0.1).all() and (mesh.extents < 0.5).all()


@pytest.mark.slow
def test_a_photo_becomes_a_record(free: FreeMaterial, tmp_path: Path, models: Models) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "photo.png").write_bytes(free.photo.read_bytes())
    _run("data", "ffhq", tmp_path / "in", "-o", tmp_path / "out")
    (record,) = (record for path in find_shards(tmp_path / "out") for record in read_shard(path))
    assert record.source == "photo.png" and record.source_size == (HEIGHT, WIDTH)
    points = np.c_[record.landmarks[:, :2], np.ones(len(record.landmarks))] @ np.linalg.inv(record.crop_matrix).T
    tracked = models.tracker.track_image(read_image(free.photo))
    seen = np.c_[tracked.motion.landmarks[0, :, :2], np.ones(478)] @ np.linalg.inv(tracked.motion.crop_matrix).T
    assert np.abs(points[:, :2].mean(0) - seen[:, :2].mean(0)).max() < 12  # other landmarks of the same face
    middle, side = record.mask.shape[0] // 2, record.mask.shape[1] // 2
    assert record.mask[middle, side] > 200


@pytest.mark.slow
def test_a_clip_becomes_records(free: FreeMaterial, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "sway.mp4").write_bytes(free.clip.read_bytes())
    _run("data", "video", tmp_path / "in", "-o", tmp_path / "out")
    records = [record for path in find_shards(tmp_path / "out") for record in read_shard(path)]
    assert len(records) == NUM_FRAMES and {record.source for record in records} == {"sway.mp4"}
    assert all(np.array_equal(record.shape, records[0].shape) for record in records)  # one identity


def test_no_test_here_needs_the_reference_material(request: pytest.FixtureRequest) -> None:
    ours = [item for item in request.session.items if item.path == request.path]
    assert ours and not [item.name for item in ours if "shared" in getattr(item, "fixturenames", ())]


def _run(*arguments: str | Path) -> None:
    assert run([*map(str, arguments), "--quiet"]) == 0


def _report(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict:
    capsys.readouterr()
    _run(*arguments, "--json")
    return json.loads(capsys.readouterr().out)


def _frames(path: Path) -> list[np.ndarray]:
    return [frame.image for frame in read_frames(path)]


def _angles(motion: Motion) -> np.ndarray:
    """Yaw, pitch, roll `[3, T]` of the head in degrees."""
    return np.stack(matrix_to_euler_degrees(axis_angle_to_matrix(torch.from_numpy(motion.rotation))))


def _slope(known: np.ndarray, measured: np.ndarray) -> float:
    """Of the line through measured over known: 1 where it follows fully, < 0 where it goes the other way."""
    return float(np.polyfit(known, measured, 1)[0])


def _psnr(first: np.ndarray, second: np.ndarray) -> float:
    error = np.square(first.astype(float) - second.astype(float)).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-12)))
