"""`portrait4d live`: a clip or a camera into a recording, screens that are absent, refusals in one line."""

import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

import portrait4d.jobs.live
import portrait4d.live.recorder
from flame.errors import InputError
from live_heads import free_avatar, free_models, portrait, rolled
from portrait4d.cli.app import build_app
from portrait4d.jobs.live import LiveStopped, run_live
from portrait4d.jobs.live_options import LiveOptions
from portrait4d.jobs.live_screens import NO_WINDOW, open_screen
from portrait4d.live.recorder import Recorder
from portrait4d.reenactment.source import Source
from preprocess.media.image import write_png
from preprocess.media.video import probe, read_frames
from preprocess.media.video_writer import VideoWriter

UNSEEN = LiveOptions(show="nothing")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(portrait4d.jobs.live, "load_models", lambda options: free_models())
    write_png(tmp_path / "photo.png", portrait())
    with VideoWriter(tmp_path / "roll.mp4", height=512, width=512, frame_rate=Fraction(25)) as writer:
        for index in range(15):
            writer.write(rolled(min(index, 10)))
    return tmp_path


@pytest.fixture
def known_head(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Likewise, without the second that a photo takes."""
    monkeypatch.setattr(portrait4d.jobs.live, "build_source", lambda path, **_: Source(free_avatar(), portrait(), path))
    return folder


class FakeCamera:
    """Gives the portrait, three times; has no picture in it on request."""

    is_there = True

    def __init__(self, index: int) -> None:
        self.count, self.is_released = 0, False

    def isOpened(self) -> bool:  # noqa: N802
        return self.is_there

    def set(self, *_: object) -> None:
        pass

    def read(self) -> tuple[bool, np.ndarray]:
        self.count += 1
        return self.count <= 3, np.ascontiguousarray(portrait()[..., ::-1])

    def release(self) -> None:
        self.is_released = True


def test_a_clip_drives_and_the_recording_lasts_as_long(folder: Path) -> None:
    report = run_live(folder / "photo.png", folder / "roll.mp4", record=folder / "out.mp4", options=UNSEEN)
    assert report.num_frames > 0 and report.num_frames + report.num_dropped <= 15 and report.num_lost == 0
    assert report.p50_ms is not None and report.p95_ms is not None and report.p50_ms <= report.p95_ms
    assert report.record == str(folder / "out.mp4")
    info = probe(folder / "out.mp4")
    assert (info.height, info.width) == (512, 512) and 0.3 < info.duration_seconds < 1.3
    frames = [frame.image.astype(float) for frame in read_frames(folder / "out.mp4")]
    assert np.abs(frames[-1] - frames[0]).mean() > 2  # the head has rolled


def test_a_camera_is_mirrored_and_its_end_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", FakeCamera)
    seen = []
    monkeypatch.setattr(
        portrait4d.jobs.live.Puppet,
        "track",
        lambda self, image, seconds: seen.append(image),  # pyright: ignore[reportPrivateImportUsage]
    )
    options = LiveOptions(show="nothing", seconds=60)
    with pytest.raises(InputError, match="camera 0 gives no more pictures"):
        run_live(folder / "photo.png", camera=0, record=folder / "out.mp4", options=options)
    assert np.array_equal(seen[0], portrait()[:, ::-1])
    assert not (folder / "out.mp4").exists()


def test_what_cannot_be_used_is_refused_before_models_are_loaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portrait4d.jobs.live, "load_models", lambda options: pytest.fail("loaded"))
    monkeypatch.setattr(cv2, "VideoCapture", FakeCamera)
    photo, clip, out = folder / "photo.png", folder / "roll.mp4", folder / "out.mp4"
    refused: list[tuple[dict[str, Any], str]] = [
        (dict(source=folder / "none.png", clip=clip), "source not found"),
        (dict(source=photo), "expected a clip or --camera, got none"),
        (dict(source=photo, clip=clip, camera=0), "expected a clip or --camera, got both"),
        (dict(source=photo, clip=clip), "expected --record where nothing is shown"),
        (dict(source=photo, clip=clip, record=folder / "out.txt"), "ending in"),
        (dict(source=photo, clip=clip, record=clip), "is one of the inputs"),
        (dict(source=photo, camera=0, record=out), "expected --seconds"),
        (dict(source=photo, clip=folder / "none.mp4", record=out), "clip not found"),
    ]
    for arguments, reason in refused:
        with pytest.raises(InputError, match=reason):
            run_live(options=UNSEEN, **arguments)
    monkeypatch.setattr(FakeCamera, "is_there", False)
    with pytest.raises(InputError, match="camera 3 cannot be opened"):
        run_live(photo, camera=3, options=LiveOptions(show="nothing", seconds=1), record=out)


def test_a_screen_that_is_absent_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(InputError, match="no display for a window"):
        open_screen("window", frames_per_second=25)
    monkeypatch.setenv("DISPLAY", ":0")

    def headless(*_: object) -> None:
        raise cv2.error("The function is not implemented")

    monkeypatch.setattr(cv2, "namedWindow", headless)
    with pytest.raises(InputError) as refusal:
        open_screen("window", frames_per_second=25)
    assert str(refusal.value) == NO_WINDOW
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    with pytest.raises(InputError, match=r"pip install 'portrait4d\[live\]'"):
        open_screen("virtual-camera", frames_per_second=25)

    def without_device(*_: object) -> None:
        raise RuntimeError("no device\nfound")

    monkeypatch.setitem(sys.modules, "pyvirtualcam", types.SimpleNamespace(Camera=without_device))
    with pytest.raises(InputError, match="no device found"):
        open_screen("virtual-camera", frames_per_second=25)


def test_a_virtual_camera_gets_the_frames_in_rgb_and_in_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, sent, closed = [], [], []

    class Camera:
        def __init__(self, width: int, height: int, fps: float) -> None:
            assert fps == 25
            sizes.append((height, width))

        def send(self, image: np.ndarray) -> None:
            sent.append(image)

        def close(self) -> None:
            closed.append(True)

    monkeypatch.setitem(sys.modules, "pyvirtualcam", types.SimpleNamespace(Camera=Camera))
    screen = open_screen("virtual-camera", frames_per_second=25)
    assert len(sizes) == len(closed) == 1  # tried, before models are loaded
    small = portrait()[:64, :96]
    assert screen.show(None) == "" and screen.show(small) == "" and screen.show(None) == ""
    screen.close()
    assert sizes[1:] == [(64, 96)] and len(sent) == 1 and np.array_equal(sent[0], small) and len(closed) == 2


def pictures_until(is_enough: Callable[[], bool]) -> Iterator[tuple[float, np.ndarray]]:
    end = time.monotonic() + 20
    while not is_enough():
        assert time.monotonic() < end
        time.sleep(0.02)
        yield time.monotonic(), portrait()


def test_a_recording_is_kept_when_ctrl_c_ends_the_session(known_head: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = known_head
    num_drawn, add = [], Recorder.add

    def stopped_pictures(clip: object) -> Iterator[tuple[float, np.ndarray]]:
        yield from pictures_until(lambda: len(num_drawn) >= 3)
        raise KeyboardInterrupt

    monkeypatch.setattr(portrait4d.jobs.live, "clip_pictures", stopped_pictures)
    monkeypatch.setattr(Recorder, "add", lambda self, *frame: (num_drawn.append(1), add(self, *frame)))
    words = ["live", "-s", str(folder / "photo.png"), str(folder / "roll.mp4"), "-o", str(folder / "out.mp4")]
    ended = CliRunner().invoke(build_app(), [*words, "--show", "nothing"])
    assert ended.exit_code == 130
    assert f"recorded {folder / 'out.mp4'}" in ended.output and "frames/s" in ended.output
    assert len(list(read_frames(folder / "out.mp4"))) >= 2
    assert {path.name for path in folder.iterdir()} == {"photo.png", "roll.mp4", "out.mp4"}


def test_ctrl_c_before_the_first_frame_leaves_nothing(known_head: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(clip: object) -> Iterator[tuple[float, None]]:
        yield 0.0, None
        raise KeyboardInterrupt

    folder = known_head
    monkeypatch.setattr(portrait4d.jobs.live, "clip_pictures", stopped)
    with pytest.raises(KeyboardInterrupt) as stop:
        run_live(folder / "photo.png", folder / "roll.mp4", record=folder / "out.mp4", options=UNSEEN)
    assert not isinstance(stop.value, LiveStopped) and not (folder / "out.mp4").exists()


class FullDisk(VideoWriter):
    """Takes no frame."""

    def write(self, image: np.ndarray) -> None:
        raise InputError("no space left on the device")


def test_a_recording_that_fails_is_told_at_once_and_the_head_goes_on(
    known_head: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = known_head
    monkeypatch.setattr(portrait4d.live.recorder, "VideoWriter", FullDisk)
    shown = []

    class Screen:
        def show(self, image: np.ndarray | None) -> str:
            if image is not None:
                shown.append("no space left" in caplog.text)
            return ""

        def close(self) -> None:
            pass

    monkeypatch.setattr(portrait4d.jobs.live, "open_screen", lambda kind, **_: Screen())
    monkeypatch.setattr(portrait4d.jobs.live, "clip_pictures", lambda clip: pictures_until(lambda: any(shown)))
    arguments: dict[str, Any] = dict(clip=folder / "roll.mp4", record=folder / "out.mp4")
    with pytest.raises(InputError, match="no space left"):
        run_live(folder / "photo.png", options=LiveOptions(), **arguments)
    assert shown[-1] and caplog.text.count("nothing is recorded any longer") == 1
    monkeypatch.setattr(portrait4d.jobs.live, "clip_pictures", lambda clip: pictures_until(lambda: False))
    with pytest.raises(InputError, match="no space left"):  # nobody sees it: it ends at once
        run_live(folder / "photo.png", options=UNSEEN, **arguments)
    assert {path.name for path in folder.iterdir()} == {"photo.png", "roll.mp4"}


def test_late_frames_stay_longer_in_a_recording(tmp_path: Path) -> None:
    with Recorder(tmp_path / "a.mp4", frame_rate=Fraction(10)) as recorder:
        for seconds, grey in ((5.0, 40), (5.1, 120), (5.5, 200)):
            recorder.add(np.full((64, 64, 3), grey, np.uint8), seconds)
    levels = [round(float(frame.image.mean()), -1) for frame in read_frames(tmp_path / "a.mp4")]
    assert levels == [40, 120, 120, 120, 120, 200] and recorder.num_frames == 6


def test_a_recording_ends_at_its_longest_and_an_empty_one_writes_nothing(tmp_path: Path) -> None:
    with Recorder(tmp_path / "a.mp4", frame_rate=Fraction(10), longest_seconds=0.5) as recorder:
        for index in range(9):
            recorder.add(np.full((64, 64, 3), 90, np.uint8), index / 10)
    assert recorder.is_full and probe(tmp_path / "a.mp4").duration_seconds == pytest.approx(0.5)
    with Recorder(tmp_path / "b.mp4"):
        pass
    recorder = Recorder(tmp_path / "c.mp4")
    recorder.__enter__()
    recorder.add(np.full((64, 64, 3), 90, np.uint8), 0.0)
    recorder.__exit__(KeyError, KeyError(), None)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


class Held(VideoWriter):
    """Writes only while its gate is open."""

    gate = threading.Event()

    def write(self, image: np.ndarray) -> None:
        assert self.gate.wait(20)
        super().write(image)


def grey(level: int) -> np.ndarray:
    return np.full((64, 64, 3), level, np.uint8)


def test_writing_holds_nobody_up_and_frames_that_find_no_room_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portrait4d.live.recorder, "VideoWriter", Held)
    monkeypatch.setattr(portrait4d.live.recorder, "NUM_WAITING", 2)
    Held.gate.clear()
    with Recorder(tmp_path / "a.mp4", frame_rate=Fraction(10)) as recorder:
        begin = time.monotonic()
        recorder.add(grey(40), 0.0)
        recorder.add(grey(80), 3.0)  # thirty frames of the first
        while recorder._waiting.qsize():  # the writer has taken them
            time.sleep(0.01)
        for index, level in enumerate((120, 160, 200, 240)):
            recorder.add(grey(level), 3.1 + index / 10)
        assert time.monotonic() - begin < 5 and recorder.num_left_out == 2
        Held.gate.set()
    levels = [round(float(frame.image.mean()), -1) for frame in read_frames(tmp_path / "a.mp4")]
    assert levels == [*[40] * 30, 80, 120, 160] and recorder.num_frames == 33


def test_a_recording_whose_writing_failed_ends_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portrait4d.live.recorder, "VideoWriter", FullDisk)
    recorder = Recorder(tmp_path / "a.mp4")
    for index in range(500):
        recorder.add(grey(90), index / 10)
        time.sleep(0.001)
    assert recorder.error is not None and recorder._waiting.qsize() < 60
    with pytest.raises(InputError, match="no space left"):
        recorder.finish()
    assert list(tmp_path.iterdir()) == []
