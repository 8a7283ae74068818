"""What `portrait4d batch` does around `run_batch`: items, lines while it runs, the table at the end, the exit code."""

from pathlib import Path

from flame.errors import InputError
from portrait4d.cli.console import fail, progress_bars, say, say_json, tell_engine
from portrait4d.jobs.batch import BatchReport, BatchResult, run_batch
from portrait4d.jobs.batch_items import BatchItem, cross_items, read_manifest
from portrait4d.options import ReenactOptions


def run_batch_command(
    sources: str | None,
    drivers: str | None,
    output: Path,
    *,
    manifest: Path | None,
    options: ReenactOptions,
    as_json: bool,
    is_quiet: bool,
) -> int:
    """Runs the batch; returns 0, 1 if an item failed, 130 if stopped."""
    items = _choose_items(sources, drivers, output, manifest)
    tell_engine(options.engine, is_quiet=is_quiet)
    finished: list[BatchResult] = []

    def on_result(result: BatchResult) -> None:
        finished.append(result)
        if not as_json:
            count = f"[{len(finished)}/{len(items)}]"
            say(f"{count} {result.state:<6} {_name(result, output)}  {_remark(result)}".rstrip())

    try:
        with progress_bars(is_quiet=is_quiet) as progress:
            report = run_batch(items, output, options=options, progress=progress, on_result=on_result)
    except KeyboardInterrupt as stop:
        if not as_json:
            _say_table(BatchReport(tuple(finished)), output)
        within = f" and {stop}" if str(stop) else ""
        fail(f"stopped after {len(finished)} of {len(items)} items{within}; run the same command again to go on")
        return 130
    if as_json:
        say_json(report.to_dict())
    else:
        _say_table(report, output)
    return 1 if report.num_failed else 0


def _choose_items(sources: str | None, drivers: str | None, output: Path, manifest: Path | None) -> list[BatchItem]:
    if manifest is not None:
        if sources is not None or drivers is not None:
            raise InputError("expected either SOURCES and DRIVERS or --manifest, got both: drop one")
        return read_manifest(manifest, output)
    if sources is None or drivers is None:
        raise InputError("expected SOURCES and DRIVERS, or --manifest: see portrait4d batch --help")
    return cross_items(sources, drivers, output)


def _remark(result: BatchResult) -> str:
    if result.state == "failed":
        return result.reason
    if result.state == "kept":
        return "finished earlier"
    return f"{result.num_frames} frames, {result.seconds:.1f} s"


def _name(result: BatchResult, folder: Path) -> str:
    path = result.item.output
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def _say_table(report: BatchReport, folder: Path) -> None:
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
