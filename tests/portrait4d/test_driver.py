"""A driver is opened once: one look at its file, one opening for every pass over it."""

import importlib
import os
import shutil
import wave
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from fakes_engine import fake_models, fake_motion
from flame.errors import InputError
from portrait4d.jobs.batch import BatchResult, run_batch
from portrait4d.jobs.batch_items import BatchItem
from portrait4d.options import ReenactOptions
from portrait4d.pipeline import SILENT, reenact, track_driver
from portrait4d.reenactment.driver import Driver
from preprocess.media.image import write_png
from preprocess.media.video_writer import VideoWriter
from preprocess.tracking.motion import Motion

SIZE, NUM_FRAMES = 96, 5

PROBE = 1
"""Openings of a clip by one probe."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A photo, and drivers of each kind: clip with sound, animation, picture, frames, motion file."""
    for name in ("photo.png", "face.png"):
        write_png(tmp_path / name, np.full((SIZE, SIZE, 3), 90, np.uint8))
    tone = (np.sin(np.arange(8000) / 5) * 9000).astype("<i2")
    with wave.open(str(tmp_path / "tone.wav"), "wb") as sound:
        sound.setparams((1, 2, 16000, 0, "NONE", ""))
        sound.writeframes(tone.tobytes())
    frames = [np.full((SIZE, SIZE, 3), 40 + 20 * index, np.uint8) for index in range(NUM_FRAMES)]
    clip = tmp_path / "nod.mp4"
    with VideoWriter(clip, height=SIZE, width=SIZE, frame_rate=25, audio_from=tmp_path / "tone.wav") as writer:
        for frame in frames:
            writer.write(frame)
    pictures = [Image.fromarray(frame) for frame in frames]
    pictures[0].save(tmp_path / "nod.gif", save_all=True, append_images=pictures[1:], duration=40)
    (tmp_path / "frames").mkdir()
    for index, frame in enumerate(frames):
        write_png(tmp_path / "frames" / f"{index}.png", frame)
    track_driver(clip, tmp_path / "nod.npz", models=fake_models())
    return tmp_path


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file name was probed, opened for reading by FFmpeg, or read as pictures, and what was sorted."""
    counts: Counter[str] = Counter()
    open_file = av.open

    def count(module: str, name: str, word: str) -> None:
        original = getattr(importlib.import_module(module), name)

        def counted(path: str | Path, *others: object):
            counts[f"{word} {Path(path).name}"] += 1
            return original(path, *others)

        monkeypatch.setattr(f"{module}.{name}", counted)

    def counted_open(file: Any, mode: Any = None, **options: Any) -> Any:
        if mode != "w":
            counts[f"open {Path(str(file)).name}"] += 1
        return open_file(file, mode, **options) if mode else open_file(file, **options)

    for module in ("portrait4d.reenactment.driver", "preprocess.media.video"):
        count(module, "probe", "probe")
    for name in ("show_animation", "show_folder", "show_picture"):
        count("preprocess.media.video", name, "read")
    for name in ("is_picture", "is_animation"):
        count("preprocess.media.video", name, "sort")
    count("portrait4d.reenactment.driver", "is_driver_folder", "sort")
    monkeypatch.setattr(av, "open", counted_open)
    return counts


@pytest.mark.parametrize(
    ("name", "kind", "opens", "reads"),
    [
        ("nod.mp4", "clip", PROBE + 2, 0),  # the pictures, the sound
        ("nod.gif", "clip", 0, 2),  # the probe has to read an animation
        ("frames", "folder", 0, 1),
        ("photo.png", "clip", 0, 1),
    ],
)
def test_a_driver_is_probed_once(
    folder: Path, opened: Counter[str], name: str, kind: str, opens: int, reads: int
) -> None:
    report = reenact(folder / "face.png", folder / name, folder / "out.mp4", models=fake_models())
    assert report.num_frames == (1 if name == "photo.png" else NUM_FRAMES)
    assert opened[f"probe {name}"] == 1
    assert (opened[f"open {name}"], opened[f"read {name}"]) == (opens, reads)
    assert opened[f"sort {name}"] <= 3  # a released folder? a picture? of several frames?
    assert Driver.open(folder / name, ReenactOptions()).kind == kind


@pytest.mark.parametrize("fps", [None, 50.0])
def test_a_released_folder_is_probed_for_its_rate_only(
    folder: Path, opened: Counter[str], monkeypatch: pytest.MonkeyPatch, fps: float | None
) -> None:
    (folder / "frames").rename(folder / "align_images")
    rates = []

    def motion_of_folder(path: Path, *_: object, frame_rate: Fraction, **__: object) -> Motion:
        rates.append((path, frame_rate))
        return fake_motion([0.1 * index for index in range(NUM_FRAMES)], frame_rate)

    monkeypatch.setattr("portrait4d.reenactment.driver.motion_of_folder", motion_of_folder)
    options = ReenactOptions(fps=fps)
    assert Driver.open(folder, options).kind == "released"
    opened.clear()
    report = reenact(folder / "face.png", folder, folder / "out.mp4", options=options, models=fake_models())
    assert report.num_frames == NUM_FRAMES and not report.has_audio
    assert rates == [(folder, fps or 25)]
    assert opened["probe align_images"] == (fps is None) and opened["read align_images"] == 0
    assert opened[f"sort {folder.name}"] == 1 and opened[f"probe {folder.name}"] == 0


def test_panels_take_one_more_pass(folder: Path, opened: Counter[str]) -> None:
    options = ReenactOptions(side_by_side=True)
    reenact(folder / "photo.png", folder / "nod.mp4", folder / "out.mp4", options=options, models=fake_models())
    assert opened["probe nod.mp4"] == 1 and opened["open nod.mp4"] == PROBE + 3


def test_a_motion_file_is_never_probed(folder: Path, opened: Counter[str]) -> None:
    (folder / "nod.mp4").unlink()
    report = reenact(folder / "photo.png", folder / "nod.npz", folder / "out.mp4", models=fake_models())
    assert report.num_frames == NUM_FRAMES and not report.has_audio
    assert not [name for name in opened if "nod" in name and name != "sort nod.npz"]


def test_the_clip_of_a_motion_file_is_probed_once(folder: Path, opened: Counter[str]) -> None:
    report = reenact(folder / "photo.png", folder / "nod.npz", folder / "out.mp4", models=fake_models())
    assert report.num_frames == NUM_FRAMES and report.has_audio and opened["probe nod.mp4"] == 1


def test_a_batch_looks_at_each_driver_once(folder: Path, opened: Counter[str]) -> None:
    write_png(folder / "other.png", np.full((SIZE, SIZE, 3), 200, np.uint8))
    items = [
        BatchItem(folder / photo, folder / "nod.mp4", folder / f"{photo}.mp4") for photo in ("photo.png", "other.png")
    ]
    report = run_batch(items, folder / "batch", models=fake_models())
    assert [result.state for result in report.results] == ["done", "done"]
    assert opened["probe nod.mp4"] == 1
    assert opened["open nod.mp4"] == PROBE + 3  # the pictures, the sound of both


def test_an_opened_driver_says_what_will_be_read(folder: Path) -> None:
    driver = Driver.open(folder / "nod.mp4", ReenactOptions(start=0.04, fps=50))
    assert driver.has_sound and driver.frame_rate == 50 and driver.num_frames == 8
    assert len(list(driver.frames(driver.frame_rate, warn=print))) == 8
    assert not Driver.open(folder / "frames", ReenactOptions()).has_sound
    with pytest.raises(InputError, match="driver not found"):
        Driver.open(folder / "none.mp4", ReenactOptions())


@pytest.mark.parametrize("name", ["nod.mp4", "nod.gif", "frames", "photo.png"])
@pytest.mark.parametrize("change", ["removed", "emptied", "exchanged"])
def test_a_driver_that_changes_between_two_passes_is_one_line(folder: Path, name: str, change: str) -> None:
    driver = Driver.open(folder / name, ReenactOptions())
    assert driver.num_frames == (1 if name == "photo.png" else NUM_FRAMES)
    path = folder / name
    is_folder = path.is_dir()
    shutil.rmtree(path) if is_folder else path.unlink()
    if change == "emptied":
        path.mkdir() if is_folder else path.write_bytes(b"")
    elif change == "exchanged":
        path.write_bytes(b"no clip") if is_folder else path.mkdir()
    with pytest.raises(InputError) as refused:
        list(driver.frames(driver.frame_rate, warn=print))
    assert name in str(refused.value) and "\n" not in str(refused.value)


def test_a_clip_that_is_gone_when_its_sound_is_wanted_leaves_a_silent_result(folder: Path) -> None:
    """A result that took minutes is not lost for it."""

    def remove(stage: str, done: int, total: int | None) -> None:
        if stage == "track" and done == NUM_FRAMES:
            os.unlink(folder / "nod.mp4")

    report = reenact(folder / "face.png", folder / "nod.mp4", folder / "out.mp4", models=fake_models(), progress=remove)
    assert report.num_frames == NUM_FRAMES and not report.has_audio and SILENT in report.warnings


def test_a_batch_looks_again_at_a_driver_that_has_changed(folder: Path) -> None:
    """Two items, one driver: between them another clip takes its name."""
    frames = [np.full((SIZE, SIZE, 3), 90, np.uint8)] * 8
    with VideoWriter(folder / "fast.mp4", height=SIZE, width=SIZE, frame_rate=50) as writer:
        for frame in frames:
            writer.write(frame)
    items = [BatchItem(folder / "face.png", folder / "nod.mp4", folder / f"{number}.mp4") for number in range(2)]

    def exchange(_: BatchResult) -> None:
        shutil.copy(folder / "fast.mp4", folder / "nod.mp4")

    report = run_batch(items, folder / "batch", models=fake_models(), on_result=exchange)
    assert [result.num_frames for result in report.results] == [NUM_FRAMES, 8]


def test_an_opened_driver_keeps_its_options(folder: Path) -> None:
    driver = Driver.open(folder / "nod.mp4", ReenactOptions(duration=0.08))
    assert len(track_driver(driver, models=fake_models())) == 2
    with pytest.raises(InputError, match="opened with"):
        track_driver(driver, options=ReenactOptions(), models=fake_models())
