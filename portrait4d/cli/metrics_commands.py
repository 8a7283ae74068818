"""`portrait4d metrics`: how near pictures are to real ones, and whether results show the motion of the truth."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from portrait4d.cli.console import Telling, progress_bars, say, say_json, warn
from portrait4d.cli.option_groups import Shown
from portrait4d.jobs.metrics_options import MetricsOptions
from portrait4d.runtime.device_options import DeviceOptions

RealArgument = Annotated[Path, typer.Argument(help="Folder of pictures, or shards: .tar, folder of them, .txt list.")]
FakeArgument = Annotated[Path, typer.Argument(help="The same, of the pictures to judge; sizes may differ.")]
OPTIONS = Shown(("features", "cache", "device"))


def frechet(real: RealArgument, fake: FakeArgument, options: Annotated[MetricsOptions, OPTIONS], tell: Telling) -> None:
    """Fréchet distance between features of two sets of pictures; FID with --features inception."""
    _measure("frechet", real, fake, options=options, tell=tell)


def kernel(real: RealArgument, fake: FakeArgument, options: Annotated[MetricsOptions, OPTIONS], tell: Telling) -> None:
    """Kernel distance between features of two sets of pictures, for small sets; KID with --features inception."""
    _measure("kernel", real, fake, options=options, tell=tell)


def tracked(
    truth: Annotated[Path, typer.Argument(help="Folder of pictures, or shards: the motion that was asked for.")],
    results: Annotated[Path, typer.Argument(help="As many pictures that should show it, in the same order.")],
    where: DeviceOptions,
    tell: Telling,
) -> None:
    """Errors of expression, pose and gaze between pairs of pictures, by the tracker."""
    from portrait4d.jobs.metrics import measure_control

    with progress_bars(is_quiet=tell.is_quiet) as progress:
        errors = measure_control(truth, results, device=where.device, progress=progress)
    if tell.as_json:
        return say_json(asdict(errors))
    say(f"face found  {100 * errors.found_share:.1f} % ({errors.num_compared} pairs compared)")
    say(f"expression  {errors.expression:.4f} blendshape units")
    say(f"pose        {errors.pose_degrees:.2f} degrees")
    say(f"gaze        {errors.gaze_degrees:.2f} degrees")


def _measure(
    kind: Literal["frechet", "kernel"], real: Path, fake: Path, *, options: MetricsOptions, tell: Telling
) -> None:
    from portrait4d.jobs.metrics import measure_distance

    with progress_bars(is_quiet=tell.is_quiet) as progress:
        found = measure_distance(kind, real, fake, options=options, progress=progress)
    if tell.as_json:
        return say_json(asdict(found))
    spread = "" if found.deviation is None else f" +- {found.deviation:.4g}"
    say(f"{found.title}  {found.distance:.5g}{spread}")
    say(f"{found.num_real} real, {found.num_fake} fake pictures; {found.num_features} features of {found.features}")
    say(f"weights {found.weights_sha256[:16]}, resized by {found.resize_filter}")
    for note in found.notes:
        warn(note)


COMMANDS = {"frechet": frechet, "kernel": kernel, "tracked": tracked}
