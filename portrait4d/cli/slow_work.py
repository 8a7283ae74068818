"""Asks before work that takes minutes: an engine that needs seconds for a frame here."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import typer

from portrait4d.options import EngineOptions, ReenactOptions

SECONDS_PER_FRAME, SECONDS_PER_VIEW = 7.0, 2.0
"""Of the released networks at 512 pixels on two cores, for a frame of a driver and for another view of a still face
(docs/results/portrait4d.md)."""

MOST_UNASKED_SECONDS = 60.0


@dataclass(frozen=True)
class AskOptions:
    """Whether a person is asked."""

    is_agreed: bool = False
    """Do not ask before work that takes minutes."""


def ask_if_slow(
    options: EngineOptions, count: Callable[[], int | None], *, seconds_each: float, is_agreed: bool
) -> None:
    """Says how long the work will take if that is minutes, and asks for a yes where somebody can give it.

    In a pipe or a script, where nobody can, the line is all.

    Args:
        options: with the engine and the device.
        count: gives the number of frames; None if it is not known.
        seconds_each: of a frame on a CPU.
        is_agreed: the yes was given before.

    Raises:
        typer.Exit: the answer is no.
    """
    from portrait4d.engines.choose import choose_engine
    from portrait4d.engines.identity import TRAINED_NAMES
    from portrait4d.runtime.device import check_device

    name = choose_engine(options.engine).name
    if is_agreed or name not in TRAINED_NAMES or check_device(options.device) != "cpu":
        return
    num_frames = count()
    seconds = None if num_frames is None else seconds_each * num_frames
    if seconds is not None and seconds < MOST_UNASKED_SECONDS:
        return
    length = "a long time" if seconds is None else f"about {seconds / 60:.0f} minutes for {num_frames} frames"
    print(
        f"engine {name} needs about {seconds_each:g} s a frame on a CPU, {length}; --engine lift is quick, "
        "--duration shortens, a stopped run can go on",
        file=sys.stderr,
    )
    if sys.stdin.isatty() and not typer.confirm("go on?", err=True):
        raise typer.Exit(2)


def count_frames(driver: Path, options: ReenactOptions) -> int | None:
    """The number of frames of a driver under the options; None if the file does not tell."""
    from portrait4d.reenactment.driver import Driver

    opened = Driver.open(driver, options)
    return len(opened.saved_motion()) if opened.kind == "motion" else opened.num_frames
