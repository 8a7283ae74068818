"""Odd, damaged and face-free files through the command line: a right result, or one clear line and nothing left behind.

The default run takes a few of each kind; `pytest -m slow` takes every file of the reference material.
"""

import dataclasses
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import portrait4d.jobs.batch
import portrait4d.pipeline
from places import ROOT, shared_folder
from portrait4d.cli.main import run
from portrait4d.jobs.demo import MOTION_FILE, demo_photo
from portrait4d.options import ReenactOptions
from preprocess.media.image import write_png
from preprocess.media.video import probe, read_frames
from preprocess.tracking.motion import Motion

QUICK = {
    "cmyk.jpg", "text.jpg", "empty.png", "one_pixel.png", "noface_cat.jpg", "zero_frames.mp4", "no_moov.mp4",
    "rotation_tag.mp4", "single_frame.mp4", "tiny_face.jpg",
}  # fmt: skip
QUICK_SWAPPED = {"cmyk.jpg", "no_moov.mp4", "empty.wav"}
EXCUSED = {"noface_dog.jpg"}
"""The face networks do see a face here, as the reference material says: either outcome will do."""

VIDEOS = {".mp4", ".gif", ".wav"}


def list_negatives(quick: set[str] = QUICK) -> list[pytest.param]:  # pyright: ignore
    """All files of the reference material that no program likes, the slow ones marked."""
    folder = shared_folder() / "data" / "negatives"
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else sorted(quick)
    return [pytest.param(name, marks=() if name in quick else pytest.mark.slow) for name in names]


@pytest.fixture(scope="session")
def expectations(shared: Path) -> dict[str, str]:
    """The words accept, warn, refuse or either by file name, from the manifest's sentences."""
    manifest = json.loads((shared / "data" / "manifest.json").read_text(encoding="utf-8"))
    return {
        Path(entry["file"]).name: verdict(Path(entry["file"]).name, entry["expect"])
        for entry in manifest["files"]
        if entry["file"].startswith("negatives/")
    }


def verdict(name: str, expectation: str) -> str:
    text = expectation.lower()
    if name.endswith(".wav"):
        return "refuse"  # sound alone drives nothing yet
    if "warning" in text and "reject" in text:
        return "warn"
    if name in EXCUSED or re.search(r"\bor (a )?(clear error|reject|accept|ask)", text) or text.startswith("as two"):
        return "either"
    if text.startswith(("reject", "clear error", "as driver: clear error")):
        return "refuse"
    return "accept"


@pytest.fixture(scope="session")
def models():
    """The real networks and engine, loaded once."""
    return portrait4d.pipeline.load_models(ReenactOptions())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, models) -> Path:
    """A working directory with a good photo and a two-frame driver."""
    monkeypatch.chdir(tmp_path)
    for module in (portrait4d.pipeline, portrait4d.jobs.batch):
        monkeypatch.setattr(module, "load_models", lambda options: models)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    write_png(tmp_path / "photo.png", demo_photo())
    motion = Motion.load(MOTION_FILE)
    dataclasses.replace(motion[:2]).save(tmp_path / "driver.npz")
    return tmp_path


def check(code: int, errors: str, expected: str, before: set[Path], after: set[Path], output: Path) -> None:
    """Exit code, messages and files belong together."""
    assert "Traceback" not in errors
    if code == 0:
        assert expected != "refuse", "accepted what the reference material says cannot work"
        assert after - before == {output} and output.stat().st_size > 0
        assert expected != "warn" or "warning: " in errors, "accepted without the warning it should carry"
        return
    assert code == 2, errors
    assert expected != "accept", errors
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and len(lines[0]) > 20, errors
    assert after == before


@pytest.mark.parametrize("name", list_negatives())
def test_as_source_or_driver_of_reenact(
    name: str, shared: Path, folder: Path, expectations: dict[str, str], capsys: pytest.CaptureFixture[str]
):
    path, output = shared / "data" / "negatives" / name, folder / "result.mp4"
    is_driver = path.suffix in VIDEOS
    pair = ["photo.png", str(path)] if is_driver else [str(path), "driver.npz"]
    before = set(folder.rglob("*"))
    code = run(["reenact", *pair, "-o", str(output), "--quiet", "--duration", "0.4"])
    check(code, capsys.readouterr().err, expectations[name], before, set(folder.rglob("*")), output)
    if code == 0:
        assert probe(output).num_frames_estimate >= 1
        assert next(iter(read_frames(output))).image.std() > 1


@pytest.mark.parametrize("name", list_negatives())
def test_as_input_of_track(
    name: str, shared: Path, folder: Path, expectations: dict[str, str], capsys: pytest.CaptureFixture[str]
):
    path, output = shared / "data" / "negatives" / name, folder / "motion.npz"
    before = set(folder.rglob("*"))
    code = run(["track", str(path), "-o", str(output), "--quiet", "--duration", "0.4"])
    check(code, capsys.readouterr().err, expectations[name], before, set(folder.rglob("*")), output)
    if code == 0:
        assert len(Motion.load(output)) >= 1


@pytest.mark.parametrize("name", list_negatives(QUICK_SWAPPED))
def test_in_the_other_s_place_in_reenact(
    name: str, shared: Path, folder: Path, expectations: dict[str, str], capsys: pytest.CaptureFixture[str]
):
    """A picture as driver is a one-frame video; a video or a sound as source is refused."""
    path, output = shared / "data" / "negatives" / name, folder / "result.mp4"
    is_video = path.suffix in VIDEOS
    pair = [str(path), "driver.npz"] if is_video else ["photo.png", str(path)]
    expected = expectations[name]
    if is_video:
        expected = "either" if path.suffix == ".gif" else "refuse"
    before = set(folder.rglob("*"))
    code = run(["reenact", *pair, "-o", str(output), "--quiet"])
    check(code, capsys.readouterr().err, expected, before, set(folder.rglob("*")), output)
    if code == 0 and not is_video:
        assert probe(output).num_frames_estimate == 1


@pytest.mark.slow
@pytest.mark.parametrize("role", ["sources", "drivers"])
def test_batch_over_everything_odd(
    role: str, shared: Path, folder: Path, expectations: dict[str, str], capsys: pytest.CaptureFixture[str]
):
    """Every file in one run: each ends as it does alone, and none stops the others."""
    paths = sorted((shared / "data" / "negatives").iterdir())
    rows = [
        {"source": str(path), "driver": "driver.npz", "output": f"{index}.mp4"}
        if role == "sources"
        else {"source": "photo.png", "driver": str(path), "output": f"{index}.mp4"}
        for index, path in enumerate(paths)
    ]
    (folder / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    arguments = ["batch", "--manifest", "list.jsonl", "-o", "out", "--duration", "0.2", "--json", "--quiet"]
    assert run(arguments) == 1
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    results = json.loads(printed.out)["results"]
    assert len(results) == len(paths)
    for path, result in zip(paths, results, strict=True):
        is_done, expected = result["state"] == "done", expectations[path.name]
        if role == "sources" and path.suffix in VIDEOS:
            expected = "either" if path.suffix == ".gif" else "refuse"
        assert is_done == Path(result["output"]).is_file(), path.name
        assert expected != ("refuse" if is_done else "accept"), (path.name, result)
        assert is_done or (result["reason"] and "unexpected" not in result["reason"]), (path.name, result)
        assert not is_done or expected != "warn" or result["warnings"], path.name
    assert not list((folder / "out").rglob(".*"))


@pytest.mark.slow
def test_batch_finishes_the_good_ones(shared: Path, folder: Path, capsys: pytest.CaptureFixture[str]):
    for name in ("cmyk.jpg", "grey.jpg", "truncated.jpg", "noface_cat.jpg"):
        (folder / "photos").mkdir(exist_ok=True)
        shutil.copy(shared / "data" / "negatives" / name, folder / "photos" / name)
    for name in ("rotation_tag.mp4", "no_moov.mp4"):
        (folder / "clips").mkdir(exist_ok=True)
        shutil.copy(shared / "data" / "negatives" / name, folder / "clips" / name)
    assert run(["batch", "photos", "clips", "-o", "out", "--duration", "0.2", "--quiet"]) == 1
    assert "2 done, 0 kept, 6 failed" in capsys.readouterr().out
    written = {path.name for path in (folder / "out").glob("*.mp4")}
    assert written == {"cmyk__rotation_tag.mp4", "grey__rotation_tag.mp4"}


def test_damaged_photo_costs_one_line_end_to_end(tmp_path: Path):
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0 and then nothing")
    shutil.copy(MOTION_FILE, tmp_path / "driver.npz")
    command = [sys.executable, "-m", "portrait4d.cli.main", "reenact", "photo.jpg", "driver.npz", "-o", "result.mp4"]
    environment = {**__import__("os").environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 2
    assert [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["driver.npz", "photo.jpg"]
