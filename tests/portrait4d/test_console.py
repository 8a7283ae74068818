"""Progress as it looks in a terminal and in a log."""

import io

import pytest
from rich.console import Console

import portrait4d.cli.console
from portrait4d.cli.console import progress_bars


def _on_terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, color_system=None)
    monkeypatch.setattr(portrait4d.cli.console, "Console", lambda stderr: console)
    return screen


def test_a_terminal_shows_one_stage_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second stage ended every command in a terminal with an IndexError: tasks are not numbered by place."""
    screen = _on_terminal(monkeypatch)
    with progress_bars() as progress:
        for stage, total in (("hash", 3), ("data", 5), ("render", None)):
            for done in range(1, 4):
                progress(stage, done, total)
    for words in ("looking at files", "building", "rendering", "3/?"):
        assert words in screen.getvalue()


def test_a_stage_that_begins_anew_gets_a_new_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = _on_terminal(monkeypatch)
    with progress_bars() as progress:
        for done in (1, 9, 2, 4):
            progress("render", done, 9)
    assert "4/9" in screen.getvalue().rpartition("rendering")[2]


def test_a_log_gets_a_line_a_stage_and_a_quiet_run_none(capsys: pytest.CaptureFixture[str]) -> None:
    for is_quiet in (False, True):
        with progress_bars(is_quiet=is_quiet) as progress:
            for stage in ("hash", "data"):
                progress(stage, 1, 2)
                progress(stage, 2, 2)
    assert capsys.readouterr().err == "looking at files ...\nbuilding ...\n"
