"""`portrait4d data`: folders of photos or videos become training data, and a look at whether it is whole."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from portrait4d.cli.choices import JsonOption, QuietOption
from portrait4d.cli.console import progress_bars, say, say_json

HELP = """Training data out of folders of photos or videos.

A bad file is rejected with its reason and stops nothing. Run the same command again to go on after whatever stopped it.
"""

FolderArgument = Annotated[Path, typer.Argument(help="Folder of inputs, searched through all levels.")]
OutputOption = Annotated[Path, typer.Option("-o", "--output", help="Folder for shards and report.")]
CropOption = Annotated[Literal["portrait4d", "eg3d"], typer.Option(help="Whose alignment of the pictures.")]
HeadModelOption = Annotated[Path | None, typer.Option(help="FLAME file (.pkl, .npz). Default: the open head.")]
CodesOption = Annotated[
    Path | None, typer.Option(help="Weights of the motion encoder (motion_model.pth): store motion codes too.")
]
WorkersOption = Annotated[int, typer.Option(help="Processes, one core and about 0.6 GB each.")]
ShardOption = Annotated[str, typer.Option(help="i/n: do the i-th (from 0) of n parts; parts need no coordination.")]
FormatOption = Annotated[Literal["png", "jpg"], typer.Option(help="Of the pictures in the shards; jpg is not exact.")]
MinFaceOption = Annotated[float, typer.Option(help="Reject faces less wide in the source, px.")]
MinSharpnessOption = Annotated[float, typer.Option(help="Reject blurred faces: variance of the Laplacian at 256 px.")]
MaxYawOption = Annotated[float, typer.Option(help="Reject heads turned further to a side, degrees.")]
MaxPitchOption = Annotated[float, typer.Option(help="Reject heads turned further up or down, degrees.")]
MaxOcclusionOption = Annotated[float, typer.Option(help="Reject faces with a larger share hidden or cut off, 0 to 1.")]
MaxFitErrorOption = Annotated[float, typer.Option(help="Reject worse fits: part of the outer-eye distance.")]
MinEyesOption = Annotated[float, typer.Option(help="Reject eyes less open, part of the eye's width; 0.1 is closed.")]


def build_data_app() -> typer.Typer:
    """The commands below `portrait4d data`."""
    from portrait4d.cli.app import interruptible  # it imports this module

    app = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode=None)
    for command in (ffhq, video, check):
        app.command()(interruptible(command))
    return app


def ffhq(
    folder: FolderArgument,
    output: OutputOption,
    crop: CropOption = "portrait4d",
    head_model: HeadModelOption = None,
    motion_codes: CodesOption = None,
    workers: WorkersOption = 1,
    shard: ShardOption = "0/1",
    items_per_shard: Annotated[int, typer.Option(help="Photos a shard.")] = 1000,
    image_format: FormatOption = "png",
    min_face: MinFaceOption = 80.0,
    min_sharpness: MinSharpnessOption = 4.0,
    max_yaw: MaxYawOption = 75.0,
    max_pitch: MaxPitchOption = 50.0,
    max_occlusion: MaxOcclusionOption = 0.15,
    max_fit_error: MaxFitErrorOption = 0.08,
    min_eyes: MinEyesOption = 0.0,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Photos of faces, the largest face of each: picture, camera, head, landmarks, mask, scores."""
    from preprocess.dataset.quality import Limits
    from preprocess.dataset.stages import StageOptions

    limits = Limits(min_face, min_sharpness, max_yaw, max_pitch, max_occlusion, max_fit_error, min_eyes)
    stage_options = StageOptions(
        "photo", crop, head_model=_text(head_model), motion_codes=_text(motion_codes), limits=limits
    )
    _build(folder, output, stage_options, (workers, items_per_shard, shard, image_format), as_json, quiet)


def video(
    folder: FolderArgument,
    output: OutputOption,
    frames: Annotated[int, typer.Option(help="At most so many frames of a clip, the first ones.")] = 50,
    every: Annotated[int, typer.Option(help="Take one of so many frames.")] = 1,
    min_frames: Annotated[int, typer.Option(help="Reject clips with fewer usable frames.")] = 10,
    crop: CropOption = "portrait4d",
    head_model: HeadModelOption = None,
    motion_codes: CodesOption = None,
    workers: WorkersOption = 1,
    shard: ShardOption = "0/1",
    items_per_shard: Annotated[int, typer.Option(help="Clips a shard.")] = 20,
    image_format: FormatOption = "png",
    min_face: MinFaceOption = 80.0,
    min_sharpness: MinSharpnessOption = 4.0,
    max_yaw: MaxYawOption = 75.0,
    max_pitch: MaxPitchOption = 50.0,
    max_occlusion: MaxOcclusionOption = 0.15,
    max_fit_error: MaxFitErrorOption = 0.08,
    min_eyes: MinEyesOption = 0.0,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Clips of one person each, up to the first cut: as for photos, with one identity for all frames."""
    from preprocess.dataset.quality import Limits
    from preprocess.dataset.stages import StageOptions

    limits = Limits(min_face, min_sharpness, max_yaw, max_pitch, max_occlusion, max_fit_error, min_eyes)
    stage_options = StageOptions(
        "clip", crop, head_model=_text(head_model), motion_codes=_text(motion_codes), num_frames=frames, every=every,
        min_frames=min(min_frames, frames), limits=limits,
    )  # fmt: skip
    _build(folder, output, stage_options, (workers, items_per_shard, shard, image_format), as_json, quiet)


def check(
    output: Annotated[Path, typer.Argument(help="Folder of a built dataset.")], as_json: JsonOption = False
) -> None:
    """Reads all shards and compares them with their indices; names what is damaged and ends with 1."""
    from preprocess.dataset.build import check_dataset

    num_whole, faults = check_dataset(output)
    if as_json:
        say_json({"whole": num_whole, "damaged": faults})
    else:
        for fault in faults:
            say(f"damaged: {fault}")
        say(f"{num_whole} shards whole, {len(faults)} damaged")
    if faults:
        raise typer.Exit(1)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _build(folder: Path, output: Path, stage_options, run, as_json: bool, is_quiet: bool) -> None:  # noqa: ANN001
    """What both commands do; `run` = workers, items per shard, part, image format."""
    from preprocess.dataset.build import BuildOptions, build_dataset
    from preprocess.dataset.plan import Part
    from preprocess.dataset.report import write_report

    workers, items_per_shard, shard, image_format = run
    options = BuildOptions(workers, items_per_shard, Part.parse(shard), image_format)
    with progress_bars(is_quiet=is_quiet) as progress:
        result = build_dataset(folder, output, stage_options, options=options, progress=progress)
    report = write_report(result, output, name=f"report-{options.part.name}", is_new=result.num_new > 0)
    if as_json:
        return say_json(report)
    for line in report["rejected"]:
        say(f"rejected  {line['source']}: {line['reason']}")
    say(
        f"{output}: {report['num_records']} records of {report['num_kept']} files in {len(result.shards)} shards, "
        f"{report['num_rejected']} files rejected; {report['html']}"
    )
