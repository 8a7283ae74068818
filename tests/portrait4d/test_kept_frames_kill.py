"""Processes that are stopped while they draw, and the next ones, which go on: with fakes and with a real network.

`test_kept_frames.py` holds the same without processes, in the quick suite.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fakes_engine import SIZE
from portrait4d.reenactment.head_crops import FRAMES_PER_CHUNK
from portrait4d.reenactment.kept_frames import WORTH_KEEPING_SECONDS
from preprocess.media.image import write_png
from preprocess.media.video import read_frames
from preprocess.media.video_writer import VideoWriter

NUM_FRAMES = 20
ENGINE = "portrait4d-v2"
FAKES = [sys.executable, str(Path(__file__).parents[1] / "support" / "run_with_fakes.py")]
COMMAND = [sys.executable, "-m", "portrait4d.cli.main"]

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")


def _start(command: list[str], *arguments: object, seconds: float = 0.0) -> subprocess.Popen:
    environment = {"PORTRAIT4D_FAKE_SECONDS": str(seconds), "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(
        [*command, "reenact", *map(str, arguments), "--json", "--quiet"],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **environment},
    )  # fmt: skip


def _finish(process: subprocess.Popen) -> dict:
    try:
        printed, errors = process.communicate(timeout=500)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    return json.loads(printed)


def _stop_when_some_are_kept(process: subprocess.Popen, folder: Path, stop: signal.Signals) -> tuple[int, str]:
    """How many frames are kept then in whole chunks, and what was said."""
    try:
        deadline = time.monotonic() + 300
        while not _num_kept(folder):
            assert time.monotonic() < deadline, "no frames were kept"
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.send_signal(stop)
        _, errors = process.communicate(timeout=300)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == {signal.SIGINT: 130}.get(stop, -stop)
    return _num_kept(folder), errors


def _num_kept(folder: Path) -> int:
    numbers = {int(path.stem) for path in folder.glob(".*.frames/[0-9]*.png")}
    chunks = [range(first, first + FRAMES_PER_CHUNK) for first in range(0, NUM_FRAMES, FRAMES_PER_CHUNK)]
    return FRAMES_PER_CHUNK * sum(numbers.issuperset(chunk) for chunk in chunks)


def _decoded(path: Path) -> np.ndarray:
    return np.stack([frame.image for frame in read_frames(path)])


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill"])
def test_frames_that_take_long_outlive_their_process(tmp_path: Path, stop: signal.Signals) -> None:
    write_png(tmp_path / "photo.png", np.full((SIZE, SIZE, 3), 90, np.uint8))
    with VideoWriter(tmp_path / "nod.mp4", height=SIZE, width=SIZE, frame_rate=25) as writer:
        for index in range(NUM_FRAMES):
            writer.write(np.full((SIZE, SIZE, 3), 40 + 8 * index, np.uint8))
    inputs = (tmp_path / "photo.png", tmp_path / "nod.mp4", "--mode", "absolute", "-o")
    assert _finish(_start(FAKES, *inputs, tmp_path / "whole.mp4"))["num_kept_frames"] == 0
    process = _start(FAKES, *inputs, tmp_path / "x.mp4", seconds=1.05 * WORTH_KEEPING_SECONDS)
    num_kept, errors = _stop_when_some_are_kept(process, tmp_path, stop)
    assert 0 < num_kept < NUM_FRAMES and not (tmp_path / "x.mp4").exists()
    assert (f"{num_kept} of {NUM_FRAMES} frames of x.mp4 are kept" in errors) == (stop == signal.SIGINT)
    report = _finish(_start(FAKES, *inputs, tmp_path / "x.mp4"))
    assert report["num_kept_frames"] == num_kept
    assert np.array_equal(_decoded(tmp_path / "x.mp4"), _decoded(tmp_path / "whole.mp4"))
    assert not list(tmp_path.glob(".*"))


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_a_killed_portrait4d_run_ends_with_the_same_video(
    shared: Path, generated_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pasted back beside the driver, which is done again; a changed option takes none of the kept frames."""
    monkeypatch.setenv("PORTRAIT4D_HOME", str(generated_home))
    photo, clip = (shared / "data" / name for name in ("sources/s01_astronaut.png", "drivers/d02_speech_woman.mp4"))
    inputs = (photo, clip, "--engine", ENGINE, "--duration", 0.2, "--paste-back", "--side-by-side", "-o")
    whole = _finish(_start(COMMAND, *inputs, tmp_path / "whole.mp4"))
    assert (whole["num_frames"], whole["num_kept_frames"]) == (5, 0)
    for options, is_reused in (((), True), (("--pose-scale", 0.5), False)):
        process = _start(COMMAND, *inputs, tmp_path / "x.mp4")
        num_kept, _ = _stop_when_some_are_kept(process, tmp_path, signal.SIGKILL)
        report = _finish(_start(COMMAND, *inputs, tmp_path / "x.mp4", *options))
        assert report["num_kept_frames"] == (num_kept if is_reused else 0) and num_kept < 5
        is_same = np.array_equal(_decoded(tmp_path / "x.mp4"), _decoded(tmp_path / "whole.mp4"))
        assert is_same == is_reused and not list(tmp_path.glob(".*"))
