"""Frames kept for a run that is stopped: which are kept and reused, by whom, and that the result is the same."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from threading import Thread
from threading import enumerate as enumerate_threads
from typing import Any

import numpy as np
import pytest

import portrait4d
import portrait4d.pipeline
import portrait4d.reenactment.kept_frames
from fakes_engine import SIZE, FakeAvatar, FakeEngine, WatchedEngine, fake_models
from flame.errors import InputError
from portrait4d.cli.main import run
from portrait4d.jobs.batch import run_batch
from portrait4d.jobs.batch_items import BatchItem
from portrait4d.options import ReenactOptions
from portrait4d.pipeline import build_source, reenact, track_driver
from portrait4d.reenactment.head_crops import FRAMES_PER_CHUNK
from portrait4d.reenactment.kept_frames import WORTH_KEEPING_SECONDS, frames_key
from portrait4d.reenactment.models import Models
from portrait4d.reenactment.report import ReenactReport
from preprocess.media.image import write_png
from preprocess.media.video import read_frames
from preprocess.media.video_writer import VideoWriter
from preprocess.tracking.neutral import neutral_of

NUM_FRAMES = 31  # the last chunk is not full


@pytest.fixture(autouse=True)
def all_are_dear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames count as worth keeping however fast they were drawn."""
    monkeypatch.setattr(portrait4d.reenactment.kept_frames, "WORTH_KEEPING_SECONDS", 0.0)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A photo and two clips in which every frame is brighter than the one before."""
    write_png(tmp_path / "photo.png", np.full((SIZE, SIZE, 3), 90, np.uint8))
    for name, step in (("nod.mp4", 6), ("talk.mp4", 5)):
        with VideoWriter(tmp_path / name, height=SIZE, width=SIZE, frame_rate=25) as writer:
            for index in range(NUM_FRAMES):
                writer.write(np.full((SIZE, SIZE, 3), 40 + step * index, np.uint8))
    return tmp_path


def models_of(engine: FakeEngine) -> Models:
    return replace(fake_models(), engine=engine)  # pyright: ignore[reportArgumentType]


def moved(files: Path, engine: FakeEngine, *, name: str = "x.mp4", **changed: Any) -> ReenactReport:
    options = ReenactOptions(mode="absolute", **changed)
    return reenact(files / "photo.png", files / "nod.mp4", files / name, options=options, models=models_of(engine))


def stopped(files: Path, *, after: int = 14, error: BaseException | None = None) -> list[Path]:
    """A run that breaks off when so many frames were drawn; what it kept."""
    error = error or KeyboardInterrupt()
    with pytest.raises(type(error)):
        moved(files, WatchedEngine(error, after=after))
    assert not (files / "x.mp4").exists()
    return kept_in(files)


def kept_in(folder: Path) -> list[Path]:
    return sorted(folder.glob(".*.frames/*.png"))


def decoded(path: Path) -> np.ndarray:
    return np.stack([frame.image for frame in read_frames(path)])


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(143), RuntimeError("a bug"), InputError("out of memory")]
)
def test_a_run_goes_on_where_another_broke_off(files: Path, error: BaseException) -> None:
    whole = WatchedEngine()
    assert moved(files, whole, name="whole.mp4").num_kept_frames == 0
    kept = stopped(files, after=14, error=error)
    assert [path.name for path in kept] == [f"{index:06d}.png" for index in range(14)]
    rest = WatchedEngine()
    report = moved(files, rest)
    assert report.num_kept_frames == 14 and report.num_frames == NUM_FRAMES and "thrown" not in str(report.warnings)
    assert sorted(rest.drawn) == sorted(whole.drawn)[14:] and len(set(whole.drawn)) == NUM_FRAMES
    assert np.array_equal(decoded(files / "x.mp4"), decoded(files / "whole.mp4"))
    assert not list(files.glob(".*"))


@pytest.mark.parametrize("changed", [{"side_by_side": True}, {"crop": False}])
def test_what_comes_after_the_head_crop_is_done_again(files: Path, changed: dict) -> None:
    moved(files, FakeEngine(), name="whole.mp4", **changed)
    with pytest.raises(KeyboardInterrupt):
        moved(files, WatchedEngine(KeyboardInterrupt(), after=10), **changed)
    assert moved(files, FakeEngine(), **changed).num_kept_frames == 10
    assert np.array_equal(decoded(files / "x.mp4"), decoded(files / "whole.mp4"))


def test_frames_drawn_fast_are_not_kept(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every frame of `lift` would cost it more than the drawing."""
    monkeypatch.setattr(portrait4d.reenactment.kept_frames, "WORTH_KEEPING_SECONDS", WORTH_KEEPING_SECONDS)
    written = []
    monkeypatch.setattr(portrait4d.reenactment.kept_frames, "write_png", lambda *_: written.append(1))
    assert not stopped(files) and not list(files.glob(".*"))
    moved(files, FakeEngine())
    assert not written


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_damaged_frames_are_drawn_again_with_those_beside_them(files: Path, damage: str) -> None:
    """A chunk wholly or not at all: what is drawn together may round together."""
    whole = WatchedEngine()
    moved(files, whole, name="whole.mp4")
    path = stopped(files)[5]
    path.unlink() if damage == "gone" else path.write_bytes(path.read_bytes()[:-20])
    rest = WatchedEngine()
    assert moved(files, rest).num_kept_frames == 14 - FRAMES_PER_CHUNK
    levels = sorted(whole.drawn)
    assert sorted(rest.drawn) == levels[4:6] + levels[14:]
    assert np.array_equal(decoded(files / "x.mp4"), decoded(files / "whole.mp4"))


@pytest.mark.parametrize("changed", ["option", "driver", "photo", "weights"])
def test_frames_of_other_inputs_are_thrown_away(files: Path, changed: str) -> None:
    stopped(files)
    engine = WatchedEngine()
    match changed:
        case "driver":
            shutil.copy(files / "talk.mp4", files / "nod.mp4")
        case "photo":
            write_png(files / "photo.png", np.full((SIZE, SIZE, 3), 91, np.uint8))
        case "weights":
            engine.weights = "other"
    options: dict[str, Any] = {"expression_scale": 0.9} if changed == "option" else {}
    report = moved(files, engine, **options)
    assert report.num_kept_frames == 0 and len(engine.drawn) == NUM_FRAMES
    assert sum("kept of x.mp4 were removed" in line for line in report.warnings) == 1
    assert not kept_in(files)


def test_the_key_knows_all_that_a_frame_depends_on(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models, options = fake_models(), ReenactOptions()
    motion = track_driver(files / "nod.mp4", models=models)
    avatar = build_source(files / "photo.png", models=models).avatar

    def key(**changed: Any) -> str:
        given = {"source": files / "photo.png", "avatar": avatar, "motion": motion, "options": options, **changed}
        return frames_key(**given, engine=models.engine)

    assert key() == key(options=replace(options, engine="fake"))  # what "auto" has become
    assert isinstance(avatar, FakeAvatar)
    others = [
        key(options=replace(options, device="cuda")),
        key(options=replace(options, yaw_limit=None)),
        key(motion=motion[:-1]),
        key(motion=replace(motion, codes=np.ones((NUM_FRAMES, 1), np.float32))),
        key(avatar=replace(avatar, motion=motion[:1])),
        key(source=files / "talk.mp4"),
        key(source=None),
        key(motion=replace(motion, neutral=neutral_of(motion))),
        key(motion=replace(motion, neutral=neutral_of(motion[1:2]))),
    ]
    monkeypatch.setattr(models.engine, "weights", "other")
    others.append(key())
    monkeypatch.setattr(models.engine, "name", "other")
    others.append(key())
    monkeypatch.setattr("portrait4d.reenactment.kept_frames.version", lambda: "0.0")
    others.append(key())
    monkeypatch.undo()
    assert len({key(), *others}) == 1 + len(others)


def test_progress_begins_with_what_is_kept(files: Path) -> None:
    stopped(files)
    told: list[tuple[str, int, int | None]] = []
    reenact(
        files / "photo.png", files / "nod.mp4", files / "x.mp4", options=ReenactOptions(mode="absolute"),
        models=models_of(FakeEngine()), progress=lambda *step: told.append(step),
    )  # fmt: skip
    rendered = [done for stage, done, total in told if stage == "render" and total == NUM_FRAMES]
    assert rendered[0] == 14 and rendered[-1] == NUM_FRAMES and rendered == sorted(rendered)


def test_frames_that_were_being_drawn_are_kept_and_counted(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C outside the threads that draw: it waits for them."""
    monkeypatch.setenv("PORTRAIT4D_FAKE_SECONDS", "0.1")

    def stop(stage: str, done: int, total: int | None) -> None:
        if stage == "render":
            raise KeyboardInterrupt

    inputs = (files / "photo.png", files / "nod.mp4", files / "x.mp4")
    with pytest.raises(KeyboardInterrupt) as caught:
        reenact(*inputs, models=models_of(FakeEngine()), progress=stop)
    assert not [thread for thread in enumerate_threads() if thread.name.startswith("render")]
    assert str(caught.value) == f"{len(kept_in(files))} of {NUM_FRAMES} frames of x.mp4 are kept"


def test_a_full_disk_costs_the_kept_frames_and_not_the_result(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(portrait4d.reenactment.kept_frames, "write_png", full)
    report = moved(files, FakeEngine())
    assert sum("No space left" in line for line in report.warnings) == 1 and len(decoded(files / "x.mp4")) == NUM_FRAMES


def test_frames_that_vanish_are_drawn(files: Path) -> None:
    """As when another run of the same output ends first and clears up."""
    moved(files, FakeEngine(), name="whole.mp4")
    stopped(files)

    def clear(stage: str, done: int, total: int | None) -> None:
        for folder in files.glob(".*.frames"):
            shutil.rmtree(folder, ignore_errors=True)

    options, models = ReenactOptions(mode="absolute"), models_of(FakeEngine())
    reenact(files / "photo.png", files / "nod.mp4", files / "x.mp4", options=options, models=models, progress=clear)
    assert np.array_equal(decoded(files / "x.mp4"), decoded(files / "whole.mp4"))


@pytest.mark.parametrize("scales", [(1.0, 1.0), (1.0, 0.8)], ids=["same", "other-option"])
def test_two_runs_of_one_output_do_not_mix(files: Path, scales: tuple[float, float], monkeypatch) -> None:
    """Each draws what the other has thrown away; never does one take a frame of the other's options."""
    monkeypatch.setenv("PORTRAIT4D_FAKE_SECONDS", "0.005")
    wanted = []
    for scale in scales:
        moved(files, FakeEngine(), name="whole.mp4", expression_scale=scale)
        wanted.append(decoded(files / "whole.mp4"))
    reports: list[ReenactReport] = []
    runs = [
        Thread(target=lambda scale=scale: reports.append(moved(files, FakeEngine(), expression_scale=scale)))
        for scale in scales
    ]
    for thread in runs:
        thread.start()
    for thread in runs:
        thread.join()
    assert len(reports) == 2 and any(np.array_equal(decoded(files / "x.mp4"), one) for one in wanted)


def test_an_item_of_a_batch_goes_on(files: Path) -> None:
    """Its motion comes from the batch's folder the second time."""
    item, options = BatchItem(files / "photo.png", files / "nod.mp4", files / "out" / "x.mp4"), ReenactOptions()
    with pytest.raises(KeyboardInterrupt, match=r"14 of 31 frames of x\.mp4 are kept"):
        run_batch(
            [item], files / "out", models=models_of(WatchedEngine(KeyboardInterrupt(), after=14)), options=options
        )
    engine = WatchedEngine()
    assert run_batch([item], files / "out", models=models_of(engine), options=options).results[0].state == "done"
    assert len(engine.drawn) == NUM_FRAMES - 14 and not list((files / "out").glob(".*"))
    assert json.loads((files / "out" / "records" / "x.mp4.json").read_text())["num_kept_frames"] == 14


def test_the_command_says_what_is_kept(files: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    engine = WatchedEngine(KeyboardInterrupt(), after=14)
    monkeypatch.setattr(portrait4d.pipeline, "load_models", lambda _: models_of(engine))
    command = ["reenact", *(str(files / name) for name in ("photo.png", "nod.mp4")), "-o", str(files / "x.mp4")]
    assert run([*command, "--quiet"]) == 130
    assert capsys.readouterr().err == (
        "error: stopped; 14 of 31 frames of x.mp4 are kept: run the same command again to resume\n"
    )
    engine = FakeEngine()
    assert run([*command, "--quiet"]) == 0
    assert "14 of these frames were rendered by an earlier run, which was stopped" in capsys.readouterr().out
    batch = ["batch", *command[1:3], "-o", str(files / "out"), "--quiet"]
    engine = WatchedEngine(KeyboardInterrupt(), after=14)
    monkeypatch.setattr(portrait4d.jobs.batch, "load_models", lambda _: models_of(engine))
    assert run(batch) == 130
    assert "stopped after 0 of 1 items and 14 of 31 frames of photo__nod.mp4 are kept; run" in capsys.readouterr().err
