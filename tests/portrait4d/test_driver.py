"""A driver is opened once: one look at its file, one opening for every pass over it."""

import wave
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import pytest
from PIL import Image

from fakes_engine import fake_models
from flame.errors import InputError
from portrait4d.jobs.batch import run_batch
from portrait4d.jobs.batch_items import BatchItem
from portrait4d.options import ReenactOptions
from portrait4d.pipeline import reenact, track_driver
from portrait4d.reenactment.driver import Driver
from preprocess.media import video
from preprocess.media.image import write_png
from preprocess.media.video_writer import VideoWriter

SIZE, NUM_FRAMES = 96, 5

PROBE = 2
"""Openings of a clip by one probe: its first frame, its time stamps."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A photo, and drivers of each kind: clip with sound, animation, picture, frames, motion file."""
    write_png(tmp_path / "photo.png", np.full((SIZE, SIZE, 3), 90, np.uint8))
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
    """How often each file name was probed, and opened for reading by FFmpeg."""
    counts: Counter[str] = Counter()
    probe, open_file = video.probe, av.open

    def counted_probe(path: str | Path) -> video.VideoInfo:
        counts[f"probe {Path(path).name}"] += 1
        return probe(path)

    def counted_open(file: object, mode: Literal["r", "w"] | None = None, **options: Any):
        if mode != "w":
            counts[f"open {Path(str(file)).name}"] += 1
        return open_file(file, mode, **options) if mode else open_file(file, **options)

    monkeypatch.setattr("portrait4d.reenactment.driver.probe", counted_probe)
    monkeypatch.setattr(video, "probe", counted_probe)
    monkeypatch.setattr(av, "open", counted_open)
    return counts


@pytest.mark.parametrize(
    ("name", "kind", "passes"),
    # of a clip: the pictures, the sound
    [("nod.mp4", "clip", PROBE + 2), ("nod.gif", "clip", 0), ("frames", "folder", 0), ("photo.png", "clip", 0)],
)
def test_a_driver_is_probed_once(folder: Path, opened: Counter[str], name: str, kind: str, passes: int) -> None:
    assert Driver.open(folder / name, ReenactOptions()).kind == kind
    report = reenact(folder / "photo.png", folder / name, folder / "out.mp4", models=fake_models())
    assert report.num_frames == (1 if name == "photo.png" else NUM_FRAMES)
    assert opened[f"probe {name}"] == 1
    assert opened[f"open {name}"] == passes


def test_panels_take_one_more_pass(folder: Path, opened: Counter[str]) -> None:
    options = ReenactOptions(side_by_side=True)
    reenact(folder / "photo.png", folder / "nod.mp4", folder / "out.mp4", options=options, models=fake_models())
    assert opened["probe nod.mp4"] == 1 and opened["open nod.mp4"] == PROBE + 3


def test_a_motion_file_is_never_probed(folder: Path, opened: Counter[str]) -> None:
    report = reenact(folder / "photo.png", folder / "nod.npz", folder / "out.mp4", models=fake_models())
    assert report.num_frames == NUM_FRAMES and not report.has_audio
    assert not [name for name in opened if "nod.npz" in name]


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


def test_a_driver_that_goes_between_two_passes_is_one_line(folder: Path) -> None:
    driver = Driver.open(folder / "nod.mp4", ReenactOptions())
    assert driver.num_frames == NUM_FRAMES
    (folder / "nod.mp4").unlink()
    with pytest.raises(InputError, match=r"nod\.mp4"):
        list(driver.frames(driver.frame_rate, warn=print))
