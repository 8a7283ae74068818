"""`portrait4d data`: builds training data from photos or videos, converts other formats, and checks data sets."""

import functools
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from flame.errors import InputError
from portrait4d.cli.console import Telling, progress_bars, say, say_json
from portrait4d.cli.option_groups import Shown
from preprocess.dataset.building.build_options import BuildOptions, ClipBuildOptions
from preprocess.dataset.building.limits import Limits
from preprocess.dataset.building.stage_options import ClipOptions, PictureOptions, StageOptions
from preprocess.dataset.formats.options import ConvertOptions

FolderArgument = Annotated[Path, typer.Argument(help="Folder of inputs, searched through all levels.")]
OutputOption = Annotated[Path, typer.Option("-o", "--output", help="Folder for shards and report.")]


PICTURES = Shown(("crop", "head_model", "motion_codes", "detector", "mask"))
RUN = Shown(("num_workers", "part", "image_format", "item_seconds"))
SHARDS = Shown(("items_per_shard",))
CONVERT = Shown(("message", "origin", "has_eg3d_lens", "items_per_shard", "image_format"))


def ffhq(
    folder: FolderArgument,
    output: OutputOption,
    pictures: Annotated[PictureOptions, PICTURES],
    limits: Limits,
    run: Annotated[BuildOptions, RUN],
    tell: Telling,
    shards: Annotated[BuildOptions, SHARDS],
) -> None:
    """Build from photos, the largest face of each: picture, camera, head, landmarks, mask, scores."""
    options = StageOptions(**vars(pictures), limits=limits)
    _build(folder, output, options, run=replace(run, items_per_shard=shards.items_per_shard), tell=tell)


def video(
    folder: FolderArgument,
    output: OutputOption,
    clips: ClipOptions,
    shards: Annotated[ClipBuildOptions, SHARDS],
    pictures: Annotated[PictureOptions, PICTURES],
    limits: Limits,
    run: Annotated[BuildOptions, RUN],
    tell: Telling,
) -> None:
    """Build from clips of one person each, up to the first cut: as ffhq, with one identity for all frames."""
    clips = replace(clips, min_frames=min(clips.min_frames, clips.num_frames))
    options = StageOptions(**{**vars(pictures), "kind": "clip"}, **vars(clips), limits=limits)
    _build(folder, output, options, run=replace(run, items_per_shard=shards.items_per_shard), tell=tell)


def convert(
    source: Annotated[
        Path, typer.Argument(help="EG3D folder or zip, Portrait4D LMDB, or shards: .tar, folder, .txt list.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="New folder for shards; from shards, a new EG3D folder or .zip.")
    ],
    formats: Annotated[ConvertOptions, CONVERT],
    tell: Telling,
) -> None:
    """Convert datasets of EG3D and Portrait4D to shards, or shards to EG3D's format; pictures are not changed."""
    from preprocess.dataset.formats.convert import eg3d_to_shards, find_format, lmdb_to_shards, shards_to_eg3d
    from preprocess.dataset.records.shards import read_shard

    kind, paths = find_format(source), []
    with progress_bars(is_quiet=tell.is_quiet) as progress:
        told = functools.partial(progress, "data")
        written = {"items_per_shard": formats.items_per_shard, "image_format": formats.image_format, "progress": told}
        if kind == "eg3d":
            paths = eg3d_to_shards(source, output, origin=formats.origin, **written)
        elif kind == "lmdb":
            if formats.message is None:
                raise InputError(
                    f"expected --message genhead, ffhq or vfhq for {source}, got none: an LMDB does not say which it is"
                )
            paths = lmdb_to_shards(source, formats.message, output, **written)
        else:
            count = shards_to_eg3d(source, output, has_eg3d_lens=formats.has_eg3d_lens, progress=told)
    if kind != "shards":
        count = sum(len(read_shard(path)) for path in paths)
    if tell.as_json:
        return say_json({"output": str(output), "pictures": count, "shards": len(paths)})
    say(f"{output}: {_count(count, 'picture')}" + (f" in {_count(len(paths), 'shard')}" if paths else ""))


def check(
    dataset: Annotated[Path, typer.Argument(help="Folder of a built dataset, a shard (.tar), or a .txt list of both.")],
    tell: Annotated[Telling, Shown(("as_json",))],
) -> None:
    """Read all shards and compare them with their indices; damage is listed, and the exit code is then 1."""
    from preprocess.dataset.building.build import check_dataset

    num_whole, faults = check_dataset(dataset)
    if tell.as_json:
        say_json({"whole": num_whole, "damaged": faults})
    else:
        for fault in faults:
            say(f"damaged: {fault}")
        say(f"{_count(num_whole, 'shard')} whole, {len(faults)} damaged")
    if faults:
        raise typer.Exit(1)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _build(folder: Path, output: Path, options: StageOptions, *, run: BuildOptions, tell: Telling) -> None:
    """Builds a data set and prints its report."""
    from preprocess.dataset.building.build import build_dataset
    from preprocess.dataset.building.report import write_report

    with progress_bars(is_quiet=tell.is_quiet) as progress:
        result = build_dataset(folder, output, options, options=run, progress=progress)
    report: dict[str, Any] = write_report(result, output, name=f"report-{run.part.name}", is_new=result.num_new > 0)
    if tell.as_json:
        return say_json(report)
    for line in report["rejected"]:
        say(f"rejected  {line['source']}: {line['reason']}")
    say(
        f"{output}: {_count(report['num_records'], 'record')} of {_count(report['num_kept'], 'file')} in "
        f"{_count(len(result.shards), 'shard')}, {_count(report['num_rejected'], 'file')} rejected; {report['html']}"
    )


COMMANDS = {"ffhq": ffhq, "video": video, "convert": convert, "check": check}
