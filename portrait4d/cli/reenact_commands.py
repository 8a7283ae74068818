"""The commands `reenact` and `batch`, which share the options of a reenactment."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flame.errors import InputError
from portrait4d.cli.console import Telling, fail, progress_bars, say, say_json, say_speed, tell_engine, warn
from portrait4d.cli.option_groups import Shown
from portrait4d.cli.slow_work import SECONDS_PER_FRAME, AskOptions, ask_if_slow, count_frames
from portrait4d.cli.spellings import Spelling
from portrait4d.options import FormatOptions, ReenactOptions
from portrait4d.reenactment.result_name import check_result

if TYPE_CHECKING:
    from portrait4d.jobs.batch import BatchReport, BatchResult
    from portrait4d.jobs.batch_items import BatchItem

REENACT = Shown(
    (
        *("engine", "mode", "crop", "side_by_side", "size", "quality", "transparent", "audio"),
        *("fps", "start", "duration", "yaw_limit", "gaze", "placement"),
        *("jitter", "flame", "expression_scale", "pose_scale", "smooth", "face", "driver_face", "device"),
    ),
    {"crop": Spelling(("--crop/--paste-back",))},
)


def reenact(
    source: Annotated[Path, typer.Argument(help="Photo of a face, or an avatar file.")],
    driver: Annotated[
        Path, typer.Argument(help="Video, picture, folder of frames, motion file (.npz), or blendshapes (.csv).")
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            help="By suffix: .mp4, .webm, .gif, .webp; no suffix: a folder of pictures; .png for a one-frame driver.",
        ),
    ],
    options: Annotated[ReenactOptions, REENACT],
    ask: AskOptions,
    tell: Telling,
) -> None:
    """Make the face in SOURCE move like DRIVER, with the driver's frame rate and sound."""
    check_result(output, options)
    from portrait4d.pipeline import reenact as run
    from portrait4d.reenactment.report import describe_gaps

    tell_engine(options.engine, is_quiet=tell.is_quiet)
    ask_if_slow(
        options,
        lambda: count_frames(driver, options),
        seconds_each=SECONDS_PER_FRAME,
        is_agreed=ask.is_agreed,
    )
    with progress_bars(is_quiet=tell.is_quiet) as progress:
        report = run(source, driver, output, options=options, progress=progress)
    for line in report.warnings:
        warn(line)
    if tell.as_json:
        return say_json(report.to_dict())
    sound = "with sound" if report.has_audio else "without sound"
    say(
        f"{report.output}: {report.num_frames} frames, {report.duration_seconds:.2f} s, {sound}, engine {report.engine}"
    )
    if report.num_kept_frames:
        say(f"{report.num_kept_frames} of these frames were rendered by an earlier run, which was stopped")
    for line in describe_gaps(report.gaps):
        say(line)
    say_speed(report)


def batch(
    sources: Annotated[
        str | None, typer.Argument(help="Photo, folder, or quoted pattern such as 'photos/*.jpg'.")
    ] = None,
    drivers: Annotated[str | None, typer.Argument(help="Video, folder, or quoted pattern.")] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")] = Path("portrait4d-batch"),
    manifest: Annotated[
        Path | None, typer.Option(help="Instead of SOURCES and DRIVERS: .csv or .jsonl with source, driver[, output].")
    ] = None,
    *,
    options: Annotated[ReenactOptions, REENACT],
    kind: FormatOptions,
    ask: AskOptions,
    tell: Telling,
) -> None:
    """Reenact every source with every driver. Run it again to resume: finished items are kept."""
    items = _choose_items(sources, drivers, output, manifest, kind.suffix)
    if manifest is None:  # a bad row of a list must not stop the others
        check_result(items[0].output, options)
    from portrait4d.jobs.batch import BatchReport, run_batch

    tell_engine(options.engine, is_quiet=tell.is_quiet)
    ask_if_slow(options, lambda: _count_all(items, options), seconds_each=SECONDS_PER_FRAME, is_agreed=ask.is_agreed)
    finished: list[BatchResult] = []

    def on_result(result: "BatchResult") -> None:
        finished.append(result)
        if not tell.as_json:
            count = f"[{len(finished)}/{len(items)}]"
            say(f"{count} {result.state:<6} {_name(result, output)}  {_remark(result)}".rstrip())

    try:
        with progress_bars(is_quiet=tell.is_quiet) as progress:
            report = run_batch(items, output, options=options, progress=progress, on_result=on_result)
    except KeyboardInterrupt as stop:
        if not tell.as_json:
            _say_table(BatchReport(tuple(finished)), output)
        within = f" and {stop}" if str(stop) else ""
        fail(f"stopped after {len(finished)} of {len(items)} items{within}; run the same command again to resume")
        raise typer.Exit(130) from None
    if tell.as_json:
        say_json(report.to_dict())
    else:
        _say_table(report, output)
    raise typer.Exit(1 if report.num_failed else 0)


def _count_all(items: "list[BatchItem]", options: ReenactOptions) -> int | None:
    """Frames of all items; None if that of one is not known, as of a driver that cannot be read."""
    total = 0
    for item in items:
        try:
            count = count_frames(item.driver, options)
        except InputError:  # the batch tells of it
            count = None
        if count is None:
            return None
        total += count
    return total


def _choose_items(
    sources: str | None, drivers: str | None, output: Path, manifest: Path | None, suffix: str
) -> "list[BatchItem]":
    from portrait4d.jobs.batch_items import cross_items, read_manifest

    if manifest is not None:
        if sources is not None or drivers is not None:
            raise InputError("expected either SOURCES and DRIVERS or --manifest, got both: drop one")
        return read_manifest(manifest, output, suffix)
    if sources is None or drivers is None:
        raise InputError("expected SOURCES and DRIVERS, or --manifest: see portrait4d batch --help")
    return cross_items(sources, drivers, output, suffix)


def _remark(result: "BatchResult") -> str:
    if result.state == "failed":
        return result.reason
    if result.state == "kept":
        return "finished earlier"
    return f"{result.num_frames} frames, {result.seconds:.1f} s"


def _name(result: "BatchResult", folder: Path) -> str:
    path = result.item.output
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def _say_table(report: "BatchReport", folder: Path) -> None:
    counts = {state: sum(result.state == state for result in report.results) for state in ("done", "kept", "failed")}
    rows = [
        (
            _name(result, folder),
            result.state,
            str(result.num_frames or ""),
            f"{result.seconds:.1f}" if result.seconds else "",
            result.reason or "; ".join(result.warnings),
        )
        for result in report.results
    ]
    heads = ("result", "state", "frames", "seconds", "remark")
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(4)]
    say("")
    for row in [heads, *rows]:
        cells = [cell.ljust(width) for cell, width in zip(row[:4], widths, strict=True)]
        say("  ".join([*cells, row[4]]).rstrip())
    say("")
    say(", ".join(f"{count} {state}" for state, count in counts.items()))
