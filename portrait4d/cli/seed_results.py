"""What `portrait4d eg3d sample` and `genhead sample` have in common: the network's argument, and the files told."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from portrait4d.cli.console import Telling, progress_bars, say, say_json
from portrait4d.runtime.progress import Progress

if TYPE_CHECKING:  # loads torch
    from portrait4d.jobs.seed_rows import SampleReport, SeedResult

NetworkArgument = Annotated[str, typer.Argument(help="Name of released weights, checkpoint folder, or official .pkl.")]


def tell_samples(write: "Callable[[Progress, Callable[[SeedResult], None]], SampleReport]", tell: Telling) -> None:
    """Writes samples and names their files as they are finished.

    Args:
        write: takes a progress callback, and one for the result of each seed.
        tell: how the command speaks.
    """

    def on_result(result: "SeedResult") -> None:
        if not tell.as_json:
            say(result.files[0] + ("  finished earlier" if result.state == "kept" else ""))

    with progress_bars(is_quiet=tell.is_quiet) as progress:
        report = write(progress, on_result)
    if tell.as_json:
        return say_json(report.to_dict())
    if report.grid:
        say(report.grid)
