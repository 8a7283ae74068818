"""Output of the command line: results to stdout; progress, warnings and errors to stderr."""

import functools
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import typer
from rich.console import Console

from flame.errors import printable

STAGES = {
    "load": "loading models",
    "track": "tracking driver",
    "render": "rendering",
    "live": "live",
    "shape": "taking the shape",
    "fit": "fitting scene",
    "evaluate": "held-out views",
    "hash": "looking at files",
    "data": "building",
    "features": "taking features",
    "heads": "tracking heads",
    "measure": "measuring",
}
UNITS = {
    "shape": "points",
    "fit": "steps",
    "evaluate": "views",
    "hash": "files",
    "data": "items",
    "features": "pictures",
    "heads": "pictures",
    "measure": "clips",
}
_PLAIN_INTERVAL_SECONDS = 10.0


@dataclass(frozen=True)
class Telling:
    """How a command reports; these are options of every command."""

    as_json: bool = False
    """Print the report as JSON on stdout."""

    is_quiet: bool = False
    """No progress on stderr."""


def say(text: str) -> None:
    """Prints one line of result to stdout."""
    print(text)


def warn(text: str) -> None:
    """Prints a warning, one line on stderr."""
    print(f"warning: {printable(text)}", file=sys.stderr)


def tell_engine(asked: str, *, is_quiet: bool) -> None:
    """Prints to stderr which engine "auto" takes and why, or which engine the weights at a path run as."""
    if is_quiet:
        return
    from portrait4d.engines.choose import available_engines, choose_engine
    from portrait4d.engines.identity import TOY

    chosen = choose_engine(asked)
    if chosen.weights is not None:
        print(f"engine {chosen.name} with the weights at {printable(str(chosen.weights))}", file=sys.stderr)
    if asked != "auto":
        return
    absent = [status.name for status in available_engines() if not (status.available or status.name == TOY)]
    others = f"; no weights here for {', '.join(absent)}" if absent else ""
    print(f"engine {chosen.name} (auto): {chosen.reason}{others}", file=sys.stderr)


def fail(text: str) -> None:
    """Prints the reason why the program ends, one line on stderr."""
    print(f"error: {printable(' '.join(text.splitlines()))}", file=sys.stderr)


def tell_stop(stop: KeyboardInterrupt) -> None:
    """Prints the line after Ctrl-C; the text of `stop` says what is kept if the command can be resumed."""
    fail(
        f"stopped; {stop}: run the same command again to resume"
        if str(stop)
        else "stopped; nothing half-written was left"
    )


def say_json(values: Any) -> None:
    """Prints a report as JSON to stdout."""
    print(json.dumps(values, indent=2, ensure_ascii=False))


def say_speed(report: Any) -> None:
    """Prints seconds by stage, frame rate and memory of a `ReenactReport`, one line on stdout."""
    stages = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in report.seconds.items())
    say(f"{stages}; {report.frames_per_second:.1f} frames/s; peak memory {report.peak_memory_mb:.0f} MB")


class PlainProgress:
    """Progress for logs and pipes: a line when a stage begins, then one every ten seconds."""

    def __init__(self) -> None:
        self._stage = ""
        self._spoken = 0.0
        self._begin, self._first = 0.0, 0

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Prints a line if one is due; `done` of `total` steps (None: unknown) of a stage are finished."""
        now = time.monotonic()
        name = STAGES.get(stage, stage)
        if stage != self._stage:
            self._stage, self._spoken = stage, now
            self._begin, self._first = now, done
            print(f"{name} ...", file=sys.stderr)
        elif now - self._spoken >= _PLAIN_INTERVAL_SECONDS:
            self._spoken = now
            noun = UNITS.get(stage, "frames")
            text = f"{name}: {done}{f' of {total}' if total else ''} {noun}"
            rate = (done - self._first) / (now - self._begin)
            if stage == "data" and total and rate > 0:
                text += f", {60 * rate:.1f} a minute, {(total - done) / rate / 60:.1f} minutes left"
            print(text, file=sys.stderr)


@contextmanager
def progress_bars(*, is_quiet: bool = False) -> Iterator[Any]:
    """Gives a progress callback: bars on a terminal, plain lines elsewhere, nothing if quiet."""
    if is_quiet:
        yield lambda stage, done, total: None
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield PlainProgress()
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )  # fmt: skip

    class RateColumn(ProgressColumn):
        def render(self, task: Task) -> str:
            return f"{task.speed:.1f}/s" if task.speed else ""

    columns = (
        TextColumn("{task.description:<16}"), BarColumn(), MofNCompleteColumn(), RateColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bars:
        shown: dict[str, Any] = {}  # the stage whose bar is shown, and the number of its task in `bars`

        def show(stage: str, done: int, total: int | None) -> None:
            if stage not in shown or done < bars.tasks[0].completed:
                for task in shown.values():
                    bars.remove_task(task)
                shown.clear()
                shown[stage] = bars.add_task(STAGES.get(stage, stage), total=total)
            bars.update(shown[stage], completed=done, total=total)

        yield show


@contextmanager
def byte_progress(*, is_quiet: bool = False) -> Iterator[Any]:
    """Like `progress_bars`, for stages that count bytes; gives None if no bar is shown, as outside a terminal."""
    console = Console(stderr=True)
    if is_quiet or not console.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<8}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        tasks: dict[str, Any] = {}

        def show(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield show


def interruptible(command: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a command so that Ctrl-C ends it with code 130; typer would end it with 1."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except KeyboardInterrupt as stop:
            tell_stop(stop)
            raise typer.Exit(130) from None

    return run
