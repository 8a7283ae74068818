"""The command `portrait4d evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flame.errors import InputError
from portrait4d.cli.console import Telling, fail, progress_bars, say, say_json, tell_engine
from portrait4d.cli.option_groups import Shown
from portrait4d.jobs.evaluation.options import EvaluateOptions

if TYPE_CHECKING:
    from portrait4d.evaluation.summary import ClipResult
    from portrait4d.jobs.evaluation.items import EvaluationItem

EVALUATE = Shown(
    (
        *("engine", "mode", "yaw_limit", "gaze", "smooth", "start", "duration", "fps"),
        *("protocol", "identity", "perceptual", "flame", "device"),
    ),
)


def evaluate(
    clips: Annotated[
        str | None,
        typer.Argument(
            help="Video, folder, quoted pattern, or shards of clips: each first frame is driven by its clip."
        ),
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the report.")] = Path(
        "portrait4d-evaluation"
    ),
    sources: Annotated[
        str | None, typer.Option(help="Photo, folder, or quoted pattern: each is driven by every clip instead.")
    ] = None,
    manifest: Annotated[
        Path | None, typer.Option(help="Instead of CLIPS: .csv or .jsonl with source, driver[, output].")
    ] = None,
    results: Annotated[
        Path | None, typer.Option(help="Folder of another program's results, named as the clips; nothing is drawn.")
    ] = None,
    *,
    options: Annotated[EvaluateOptions, EVALUATE],
    tell: Telling,
) -> None:
    """Measure reenactments, of an engine or of any program, by measures that are printed with their definitions.

    OUTPUT gets report.json, report.md and the contact sheet sheet.png. Run it again to resume: clips that were measured
    are kept. Definitions and what compares with published numbers: docs/evaluate.md.
    """
    from portrait4d.jobs.evaluation.run import evaluate as run

    items = _choose_items(clips, sources, manifest, output)
    if results is None:
        tell_engine(options.reenact.engine, is_quiet=tell.is_quiet)
    finished: list[ClipResult] = []

    def on_result(result: "ClipResult") -> None:
        finished.append(result)
        if not tell.as_json:
            remark = result.reason or ("measured earlier" if result.state == "kept" else "")
            say(f"[{len(finished)}/{len(items)}] {result.state:<6} {result.name}  {remark}".rstrip())

    try:
        with progress_bars(is_quiet=tell.is_quiet) as progress:
            report = run(items, output, options=options, results=results, progress=progress, on_result=on_result)
    except KeyboardInterrupt:
        fail(f"stopped after {len(finished)} of {len(items)} clips; run the same command again to resume")
        raise typer.Exit(130) from None
    if tell.as_json:
        say_json(report.to_dict())
    else:
        sheet = ", sheet.png" if report.has_sheet else ""
        say(f"\n{report.to_markdown()}\nwritten to {output}: report.json, report.md{sheet}")
    raise typer.Exit(1 if report.num_failed else 0)


def _choose_items(
    clips: str | None, sources: str | None, manifest: Path | None, output: Path
) -> "list[EvaluationItem]":
    from portrait4d.jobs.evaluation.items import cross_reenactments, pair_items, self_items
    from portrait4d.jobs.evaluation.shards import holds_shards, shard_items

    if manifest is not None:
        if clips is not None or sources is not None:
            raise InputError("expected either CLIPS or --manifest, got both: drop one")
        return pair_items(manifest)
    if clips is None:
        raise InputError("expected CLIPS or --manifest: see portrait4d evaluate --help")
    if sources is None and holds_shards(Path(clips)):
        return shard_items(Path(clips), output / "clips")
    return self_items(clips) if sources is None else cross_reenactments(sources, clips)
