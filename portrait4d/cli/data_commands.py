"""`portrait4d data`: folders of photos or videos become training data, formats of others too, and a look at both."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from flame.errors import InputError
from portrait4d.cli.choices import JsonOption, QuietOption
from portrait4d.cli.console import progress_bars, say, say_json
from portrait4d.cli.option_groups import with_groups
from preprocess.faces.backend_names import DetectorName, MaskName

if TYPE_CHECKING:
    from preprocess.dataset.building.limits import Limits
    from preprocess.dataset.building.stage_options import StageOptions

HELP = """Training data out of folders of photos or videos.

A bad file is rejected with its reason and stops nothing. Run the same command again to go on after whatever stopped it.
"""

FolderArgument = Annotated[Path, typer.Argument(help="Folder of inputs, searched through all levels.")]
OutputOption = Annotated[Path, typer.Option("-o", "--output", help="Folder for shards and report.")]


@dataclass(frozen=True)
class StageChoices:
    """What is found in pictures, and how they are aligned."""

    crop: Annotated[Literal["portrait4d", "eg3d"], typer.Option(help="Whose alignment of the pictures.")] = "portrait4d"
    head_model: Annotated[Path | None, typer.Option(help="FLAME file (.pkl, .npz). Default: the open head.")] = None
    motion_codes: Annotated[
        Path | None, typer.Option(help="Weights of the motion encoder (motion_model.pth): store motion codes too.")
    ] = None
    detector: Annotated[DetectorName, typer.Option(help="Finds faces and the landmarks that are stored.")] = "embedded"
    mask: Annotated[MaskName, typer.Option(help="Finds the person.")] = "matte"

    def to_options(self, kind: Literal["photo", "clip"], limits: "Limits", **of_clips: int) -> "StageOptions":
        from preprocess.dataset.building.stage_options import StageOptions

        head_model = None if self.head_model is None else str(self.head_model)
        codes = None if self.motion_codes is None else str(self.motion_codes)
        return StageOptions(
            kind, self.crop, head_model, codes, detector=self.detector, mask=self.mask, limits=limits, **of_clips
        )


@dataclass(frozen=True)
class ClipChoices:
    """Which frames of a clip."""

    frames: Annotated[int, typer.Option(help="At most so many frames of a clip, the first ones.")] = 50
    every: Annotated[int, typer.Option(help="Take one of so many frames.")] = 1
    min_frames: Annotated[int, typer.Option(help="Reject clips with fewer usable frames.")] = 10
    items_per_shard: Annotated[int, typer.Option(help="Clips a shard.")] = 20


@dataclass(frozen=True)
class LimitChoices:
    """What a picture must reach to be kept; the fields of `Limits`, in their order."""

    min_face: Annotated[float, typer.Option(help="Reject faces less wide in the source, px.")] = 80.0
    min_sharpness: Annotated[float, typer.Option(help="Reject blurred faces: variance of the Laplacian at 256 px.")] = (
        4.0
    )
    max_yaw: Annotated[float, typer.Option(help="Reject heads turned further to a side, degrees.")] = 75.0
    max_pitch: Annotated[float, typer.Option(help="Reject heads turned further up or down, degrees.")] = 50.0
    max_occlusion: Annotated[
        float, typer.Option(help="Reject faces with a larger share hidden or cut off, 0 to 1.")
    ] = 0.15
    max_fit_error: Annotated[float, typer.Option(help="Reject worse fits: part of the outer-eye distance.")] = 0.08
    min_eyes: Annotated[float, typer.Option(help="Reject eyes less open, part of the eye's width; 0.1 is closed.")] = (
        0.0
    )

    max_outside: Annotated[
        float, typer.Option(help="Reject pictures with a larger share beyond the source's border, 0 to 1.")
    ] = 1.0

    def to_limits(self) -> "Limits":
        from preprocess.dataset.building.limits import Limits

        return Limits(
            self.min_face, self.min_sharpness, self.max_yaw, self.max_pitch, self.max_occlusion, self.max_fit_error,
            self.min_eyes, self.max_outside,
        )  # fmt: skip


@dataclass(frozen=True)
class RunChoices:
    """How the work is done; nothing here changes a record."""

    workers: Annotated[int, typer.Option(help="Processes, one core and about 0.6 GB each.")] = 1
    shard: Annotated[str, typer.Option(help="i/n: do the i-th (from 0) of n parts; parts need no coordination.")] = (
        "0/1"
    )
    image_format: Annotated[
        Literal["png", "jpg"], typer.Option(help="Of the pictures in the shards; jpg is not exact.")
    ] = "png"
    item_timeout: Annotated[
        float, typer.Option(help="Reject a file that takes longer than so many seconds; 0 waits for ever.")
    ] = 1800.0
    as_json: JsonOption = False
    quiet: QuietOption = False


@dataclass(frozen=True)
class FormatChoices:
    """What the formats do not say of themselves."""

    message: Annotated[
        Literal["genhead", "ffhq", "vfhq"] | None, typer.Option(help="What an LMDB holds.", show_default=False)
    ] = None
    origin: Annotated[Literal["open", "flame"], typer.Option(help="Whose neck joint and axes the world gets.")] = (
        "flame"
    )
    eg3d_lens: Annotated[bool, typer.Option("--eg3d-lens", help="To EG3D: give all cameras its lens and distance.")] = (
        False
    )
    items_per_shard: Annotated[int, typer.Option(help="Pictures a shard.")] = 1000
    image_format: Annotated[
        Literal["png", "jpg"], typer.Option(help="Of the pictures in the shards; jpg is not exact.")
    ] = "png"


def build_data_app() -> typer.Typer:
    """The commands below `portrait4d data`."""
    from portrait4d.cli.console import interruptible

    app = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode=None)
    for command in (ffhq, video, convert, check):
        app.command()(interruptible(with_groups(command)))
    return app


def ffhq(
    folder: FolderArgument,
    output: OutputOption,
    stages: StageChoices,
    limits: LimitChoices,
    run: RunChoices,
    items_per_shard: Annotated[int, typer.Option(help="Photos a shard.")] = 1000,
) -> None:
    """Photos of faces, the largest face of each: picture, camera, head, landmarks, mask, scores."""
    options = stages.to_options("photo", limits.to_limits())
    _build(folder, output, options, run=run, items_per_shard=items_per_shard)


def video(
    folder: FolderArgument,
    output: OutputOption,
    clips: ClipChoices,
    stages: StageChoices,
    limits: LimitChoices,
    run: RunChoices,
) -> None:
    """Clips of one person each, up to the first cut: as for photos, with one identity for all frames."""
    min_frames = min(clips.min_frames, clips.frames)
    options = stages.to_options(
        "clip", limits.to_limits(), num_frames=clips.frames, every=clips.every, min_frames=min_frames
    )
    _build(folder, output, options, run=run, items_per_shard=clips.items_per_shard)


def convert(
    source: Annotated[
        Path, typer.Argument(help="Folder or zip of EG3D's, LMDB of Portrait4D's, or shards: .tar, folder, .txt list.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="New folder for shards; of shards, EG3D's new folder or .zip.")
    ],
    formats: FormatChoices,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Datasets of EG3D and Portrait4D to shards, and shards to EG3D's: pictures as they are, cameras converted."""
    from preprocess.dataset.formats.convert import eg3d_to_shards, find_format, lmdb_to_shards, shards_to_eg3d
    from preprocess.dataset.records.shards import read_shard

    kind, paths = find_format(source), []
    with progress_bars(is_quiet=quiet) as progress:
        told = functools.partial(progress, "data")
        written = {"items_per_shard": formats.items_per_shard, "image_format": formats.image_format, "progress": told}
        if kind == "eg3d":
            paths = eg3d_to_shards(source, output, origin=formats.origin, **written)
        elif kind == "lmdb":
            if formats.message is None:
                raise InputError(f"expected --message genhead, ffhq or vfhq for {source}: an LMDB does not say it")
            paths = lmdb_to_shards(source, formats.message, output, **written)
        else:
            count = shards_to_eg3d(source, output, has_eg3d_lens=formats.eg3d_lens, progress=told)
    if kind != "shards":
        count = sum(len(read_shard(path)) for path in paths)
    if as_json:
        return say_json({"output": str(output), "pictures": count, "shards": len(paths)})
    say(f"{output}: {_count(count, 'picture')}" + (f" in {_count(len(paths), 'shard')}" if paths else ""))


def check(
    dataset: Annotated[Path, typer.Argument(help="Folder of a built dataset, a shard (.tar), or a .txt list of both.")],
    as_json: JsonOption = False,
) -> None:
    """Reads all shards and compares them with their indices; names what is damaged and ends with 1."""
    from preprocess.dataset.building.build import check_dataset

    num_whole, faults = check_dataset(dataset)
    if as_json:
        say_json({"whole": num_whole, "damaged": faults})
    else:
        for fault in faults:
            say(f"damaged: {fault}")
        say(f"{_count(num_whole, 'shard')} whole, {len(faults)} damaged")
    if faults:
        raise typer.Exit(1)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _build(folder: Path, output: Path, options: "StageOptions", *, run: RunChoices, items_per_shard: int) -> None:
    """What both commands do."""
    from preprocess.dataset.building.build import BuildOptions, build_dataset
    from preprocess.dataset.building.plan import Part
    from preprocess.dataset.building.report import write_report

    build_options = BuildOptions(
        run.workers, items_per_shard, Part.parse(run.shard), run.image_format, item_seconds=run.item_timeout
    )
    with progress_bars(is_quiet=run.quiet) as progress:
        result = build_dataset(folder, output, options, options=build_options, progress=progress)
    report: dict[str, Any] = write_report(
        result, output, name=f"report-{build_options.part.name}", is_new=result.num_new > 0
    )
    if run.as_json:
        return say_json(report)
    for line in report["rejected"]:
        say(f"rejected  {line['source']}: {line['reason']}")
    say(
        f"{output}: {_count(report['num_records'], 'record')} of {_count(report['num_kept'], 'file')} in "
        f"{_count(len(result.shards), 'shard')}, {_count(report['num_rejected'], 'file')} rejected; {report['html']}"
    )
