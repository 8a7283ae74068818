"""An engine that needs seconds a frame says how long the work takes, and asks where somebody can answer."""

import io
from typing import Any

import pytest
import typer

from portrait4d.cli.slow_work import SECONDS_PER_FRAME, ask_if_slow, count_frames
from portrait4d.jobs.demo import MOTION_FILE
from portrait4d.options import ReenactOptions
from preprocess.tracking.motion import Motion


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Questions that were asked; they are answered with no."""
    asked: list[str] = []

    def confirm(text: str, **options: Any) -> bool:
        asked.append(text)
        return False

    monkeypatch.setattr(typer, "confirm", confirm)
    monkeypatch.setattr("sys.stdin", Terminal())
    return asked


def ask(engine: str, num_frames: int | None, **options: Any) -> None:
    is_agreed = options.pop("is_agreed", False)
    given = ReenactOptions(engine=engine, **options)
    ask_if_slow(given, lambda: num_frames, seconds_each=SECONDS_PER_FRAME, is_agreed=is_agreed)


def test_a_no_ends_the_work(answers, capsys):
    with pytest.raises(typer.Exit):
        ask("portrait4d-v2", 300)
    assert answers == ["go on?"]
    assert "needs about 7 s a frame on a CPU, about 35 minutes for 300 frames" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("engine", "num_frames", "options"),
    [("lift", 10_000, {}), ("portrait4d", 8, {}), ("portrait4d", 300, {"is_agreed": True})],
)
def test_quick_or_agreed_work_asks_nothing(answers, capsys, engine, num_frames, options):
    ask(engine, num_frames, **options)
    assert answers == [] and capsys.readouterr().err == ""


def test_a_script_is_told_and_not_asked(answers, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    ask("portrait4d", None)
    assert answers == [] and "a long time" in capsys.readouterr().err


def test_an_accelerator_is_quick(answers, monkeypatch):
    monkeypatch.setattr("portrait4d.runtime.device.check_device", lambda device: "cuda")
    ask("portrait4d", 300, device="cuda")
    assert answers == []


def test_frames_of_a_motion_file_are_counted_under_the_cut():
    motion = Motion.load(MOTION_FILE)
    assert count_frames(MOTION_FILE, ReenactOptions()) == len(motion)
    assert count_frames(MOTION_FILE, ReenactOptions(duration=1.0)) == round(float(motion.frame_rate))
