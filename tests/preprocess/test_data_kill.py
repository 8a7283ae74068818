"""Builds with the real networks, killed at random moments: what comes out in the end is the same, byte for byte."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from places import ROOT
from preprocess.dataset.building.build import check_dataset
from preprocess.dataset.reading.dataset import Dataset

PHOTOS = (
    *(f"pairs/{name}.jpg" for name in ("A1", "A2", "B1", "B2", "C1", "D1", "E1")),
    *("sources/s02_official_portrait.jpg", "sources/s08_shouting_woman.jpg", "sources/s10_happy.jpg"),
    *("negatives/noface_cat.jpg", "negatives/truncated.jpg"),
)
CLIPS = (
    *(
        f"drivers/{name}.mp4"
        for name in ("d01_green_smile", "d02_speech_woman", "d03_glasses_expr", "d06_speech_24fps")
    ),
    *("drivers/d10_male_talk_map.mp4", "negatives/fps5.mp4", "negatives/no_moov.mp4", "baseline/audio_kara_source.mp4"),
)
NUM_KILLS = 5

pytestmark = [
    pytest.mark.timeout(1500),
    pytest.mark.skipif(os.name == "nt", reason="signals and process groups of POSIX"),
]


@pytest.mark.parametrize(
    ("command", "names", "num_records"),
    [
        pytest.param(["ffhq", "--items-per-shard", "5"], PHOTOS, 10, marks=pytest.mark.slow, id="ffhq"),
        pytest.param(
            ["video", "--items-per-shard", "3", "--frames", "12"], CLIPS, 72, marks=pytest.mark.long, id="video"
        ),
    ],
)
def test_killed_five_times_the_shards_are_the_same(
    shared: Path, tmp_path: Path, command: list[str], names: tuple[str, ...], num_records: int
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in names:
        shutil.copy(shared / "data" / name, folder)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    _finish(_start(command, folder, whole))
    assert len(Dataset(whole)) == num_records

    generator = random.Random(len(names))
    before: set[str] = set()
    wanted = generator.sample([0, 0, 1, 1, 2], NUM_KILLS)  # new items of a run; 0 mostly while models are loaded
    for number in wanted:
        process = _start(command, folder, killed, num_items=number)
        deadline = time.monotonic() + 600
        try:
            while len(_finished(killed) - before) < number:
                assert time.monotonic() < deadline and process.poll() is None, "no item was finished"
                time.sleep(0.002)
            time.sleep(generator.uniform(0, 0.5))
            if generator.random() < 0.5:
                os.killpg(process.pid, signal.SIGKILL)
        finally:  # otherwise its worker lives on until it sees that nobody listens; the next run begins beside it
            process.kill()
            process.wait()
        assert before <= _finished(killed), "finished items were lost"
        before = _finished(killed)
    assert before, "no run came beyond loading its models"
    _finish(_start(command, folder, killed))
    assert _shards(killed) == _shards(whole) and len(_shards(whole)) == 6
    assert check_dataset(killed) == (len(_shards(whole)) // 2, [])


def _start(command: list[str], folder: Path, output: Path, *, num_items: int = 1000) -> subprocess.Popen:
    """A build that cannot end: its worker waits before the end of the next item after `num_items`."""
    arguments = ["data", *command, str(folder), "-o", str(output), "--workers", "1", "--quiet"]
    return subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "support" / "run_build.py"), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PORTRAIT4D_FAKE_ITEMS": str(num_items)},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
    )


def _finish(process: subprocess.Popen) -> None:
    try:
        assert process.wait(timeout=1000) == 0
    finally:
        process.kill()


def _finished(output: Path) -> set[str]:
    """Keys of finished items; between assembly and clearing a shard's items stand in two places."""
    keys = {path.stem for path in output.glob("items/[!.]*.json") if not path.name.endswith(".index.json")}
    for path in output.glob("outcomes/[!.]*.json"):
        keys |= {outcome["key"] for outcome in json.loads(path.read_text())}
    return keys


def _shards(output: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(output.glob("*.tar*"))}
