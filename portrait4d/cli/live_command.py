"""The command `live`: a camera or a clip drives the head of a photo while one watches."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from portrait4d.cli.console import Telling, progress_bars, say, say_json, tell_engine, warn
from portrait4d.cli.option_groups import Shown
from portrait4d.cli.spellings import Spelling
from portrait4d.jobs.live_options import LiveOptions

if TYPE_CHECKING:
    from portrait4d.jobs.live import LiveReport

LIVE = Shown(
    (
        *("show", "seconds", "is_mirrored", "mode", "yaw_limit", "gaze", "expression_scale", "pose_scale"),
        *("face", "driver_face", "engine", "flame", "device"),
    ),
    {"is_mirrored": Spelling(("--mirrored/--no-mirrored",), has_shown_default=False)},
)


def live(
    source: Annotated[Path, typer.Option("-s", "--source", help="Photo of a face, or an avatar file.")],
    options: Annotated[LiveOptions, LIVE],
    tell: Telling,
    clip: Annotated[Path | None, typer.Argument(help="Clip that drives, at its own speed; or use --camera.")] = None,
    camera: Annotated[int | None, typer.Option("-c", "--camera", help="Number of the camera; 0 is the first.")] = None,
    record: Annotated[Path | None, typer.Option("-o", "--record", help="Video to write as well (.mp4).")] = None,
) -> None:
    """Drive the head of a photo by a camera or a clip while you watch, and say how fast and how late it was.

    Keys in the window: n holds the driver's pose and face as neutral, q ends.
    """
    from portrait4d.jobs.live import LiveStopped, run_live

    tell_engine(options.engine, is_quiet=tell.is_quiet)
    try:
        with progress_bars(is_quiet=tell.is_quiet) as progress:
            report = run_live(source, clip, camera=camera, record=record, options=options, progress=progress)
    except LiveStopped as stop:
        _tell(stop.report, as_json=tell.as_json)
        raise typer.Exit(130) from None
    _tell(report, as_json=tell.as_json)


def _tell(report: "LiveReport", *, as_json: bool) -> None:
    for line in report.warnings:
        warn(line)
    if report.num_left_out:
        warn(f"{report.num_left_out} drawn frames are not in the recording: writing was too slow")
    if as_json:
        return say_json(asdict(report))
    if not report.num_frames:
        return say("no frame was drawn")
    if report.record is not None:
        say(f"recorded {report.record}")
    rates = "none drawn"
    if report.p50_ms is not None:
        rates = (
            f"{report.frames_per_second:.1f} frames/s, latency p50 {report.p50_ms:.0f} ms, p95 {report.p95_ms:.0f} ms"
        )
    say(
        f"{report.num_frames} frames in {report.seconds:.1f} s, {report.num_dropped} dropped, driver not seen in "
        f"{report.num_lost}; last 10 s: {rates}; engine {report.engine}"
    )
