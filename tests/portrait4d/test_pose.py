"""`portrait4d pose`: a face posed by name, by the real `lift` on a bundled picture; refusals before any loading."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import portrait4d.jobs.pose
import portrait4d.pipeline
from flame.errors import InputError
from portrait4d.cli.main import run
from portrait4d.engines.choose import available_engines
from portrait4d.jobs.demo import demo_photo
from portrait4d.jobs.pose import pose_avatar, with_engine
from portrait4d.options import PoseOptions, ReenactOptions
from portrait4d.pipeline import reenact
from portrait4d.reenactment.models import Models, load_models
from preprocess.media.image import read_image, write_png
from preprocess.media.video import read_frames
from preprocess.tracking.motion import Motion

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def models() -> Models:
    return load_models(PoseOptions(engine="lift"))


@pytest.fixture(scope="module")
def bundled_photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    write_png(path, demo_photo())
    return path


@pytest.fixture
def nothing_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(options: Any) -> Any:
        raise AssertionError("models were loaded")

    monkeypatch.setattr(portrait4d.jobs.pose, "load_models", load)


def _refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert run(["pose", *words, "--quiet"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def test_a_posed_face_is_read_back_by_the_tracker(models: Models, bundled_photo: Path, tmp_path: Path) -> None:
    before = models.tracker.track_image(read_image(bundled_photo)).motion
    options = PoseOptions(engine="lift", jaw_open=1, yaw_degrees=12, blink_left=1)
    report = pose_avatar(bundled_photo, tmp_path / "out.png", options=options, models=models)
    assert report.engine == "lift" and report.changes == {"jaw_open": 1, "blink_left": 1, "yaw_degrees": 12}
    after = models.tracker.track_image(read_image(tmp_path / "out.png")).motion
    assert after.values("jaw_open")[0] > before.values("jaw_open")[0] + 0.3
    assert after.values("yaw_degrees")[0] > before.values("yaw_degrees")[0] + 4
    assert after.eye_open[0, 0] < 0.5 * before.eye_open[0, 0]


def test_nothing_changed_is_the_photo(models: Models, bundled_photo: Path, tmp_path: Path) -> None:
    options = PoseOptions(engine="lift")
    pose_avatar(bundled_photo, tmp_path / "out.png", options=options, models=models)
    source = models.tracker.track_image(read_image(bundled_photo))
    crop = models.engine.build([source]).crop.apply(source.image)
    assert np.abs(read_image(tmp_path / "out.png").astype(int) - crop).mean() < 2


def test_the_options_reach_the_edit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked = []

    def pose(source: Path, output: Path, *, options: PoseOptions) -> Any:
        asked.append(options)
        return portrait4d.jobs.pose.PoseReport(str(output), "lift", options.changes, ())

    monkeypatch.setattr(portrait4d.jobs.pose, "pose_avatar", pose)
    words = ["--smile", ".5", "--gaze=-0.2,0.1", "--blink-left", "1", "--yaw", "-10", "--set", "mouthLeft=0.4"]
    assert (
        run(["pose", "photo.jpg", "-o", "out.png", *words, "--set", "smile_left=.1", "--engine", "lift", "--json"]) == 0
    )
    expected = {
        "smile": 0.5,
        "blink_left": 1,
        "gaze": (-0.2, 0.1),
        "yaw_degrees": -10,
        "mouthLeft": 0.4,
        "smile_left": 0.1,
    }
    assert asked[0].changes == expected
    assert json.loads(capsys.readouterr().out)["changes"] == {**expected, "gaze": [-0.2, 0.1]}


@pytest.mark.usefixtures("nothing_loads")
def test_refusals_before_anything_is_loaded(
    bundled_photo: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    photo, out = str(bundled_photo), str(tmp_path / "out.png")
    assert "did you mean 'mouthLeft'" in _refusal(capsys, photo, "-o", out, "--set", "mouthLefd=1", "--engine", "lift")
    assert "--set NAME=VALUE" in _refusal(capsys, photo, "-o", out, "--set", "jawOpen")
    assert "smile as a number from 0 to 1, got 2" in _refusal(capsys, photo, "-o", out, "--smile", "2")
    assert "two numbers from -1 to 1" in _refusal(capsys, photo, "-o", out, "--gaze", "0,3")
    assert "yaw_degrees as a number from -90 to 90" in _refusal(capsys, photo, "-o", out, "--yaw", "120")
    assert "two numbers like 0.2,0" in _refusal(capsys, photo, "-o", out, "--gaze", "0.2")
    assert "ending in .png" in _refusal(capsys, photo, "-o", str(tmp_path / "out.mp4"))
    message = _refusal(capsys, photo, "-o", out, "--smile", "1", "--engine", "portrait4d-v2")
    assert "only the head's yaw, pitch and roll for engine portrait4d-v2" in message and "got smile" in message


def test_a_table_of_an_engine_without_names_is_refused_before_tracking(
    bundled_photo: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portrait4d.pipeline, "load_models", lambda options: pytest.fail("models were loaded"))
    words = ["track", str(bundled_photo), "-o", str(tmp_path / "m.csv"), "--engine", "portrait4d-v2", "--quiet"]
    assert run(words) == 2
    assert "expected a .npz for a motion of engine portrait4d-v2, which has no named ones" in capsys.readouterr().err


def test_auto_takes_an_engine_that_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    best = next(status for status in available_engines() if status.name == "portrait4d-v2")
    monkeypatch.setattr(portrait4d.jobs.pose, "choose_engine", lambda engine: best)
    assert with_engine(PoseOptions(smile=1)).engine == "lift"
    assert with_engine(PoseOptions(yaw_degrees=3)).engine == "auto"
    assert with_engine(PoseOptions(engine="portrait4d-v2", smile=1)).engine == "portrait4d-v2"


def test_models_that_cannot_follow_are_refused(bundled_photo: Path, tmp_path: Path) -> None:
    static = next(status for status in available_engines() if status.name == "portrait4d-static")
    with pytest.raises(InputError, match="for engine portrait4d-static, which has no named ones"):
        pose_avatar(
            bundled_photo, tmp_path / "out.png", options=PoseOptions(gaze=(0, 0)),
            models=SimpleNamespace(engine=static),  # pyright: ignore[reportArgumentType]  (only its engine is read)
        )  # fmt: skip


@pytest.mark.slow
def test_a_table_of_blendshapes_drives_a_photo(bundled_photo: Path, models: Models, tmp_path: Path) -> None:
    """The jaw of a Live Link Face take opens and shuts in the result."""
    opening = np.sin(np.linspace(0, np.pi, 9)) * 0.7
    Motion.from_arkit({"jawOpen": opening}, frame_rate=24).save(tmp_path / "take.csv", layout="live-link-face")
    reenact(
        bundled_photo, tmp_path / "take.csv", tmp_path / "out.mp4", options=ReenactOptions(engine="lift"), models=models
    )
    frames = [frame.image for frame in read_frames(tmp_path / "out.mp4")]
    seen = [models.tracker.track_image(frames[index]).motion.values("jaw_open")[0] for index in (0, 4, 8)]
    assert len(frames) == 9 and seen[1] > max(seen[0], seen[2]) + 0.25
