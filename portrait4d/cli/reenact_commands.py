"""`reenact` and `batch`, which share the options of a reenactment."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from portrait4d.cli.choices import (
    CropOption,
    DeviceOption,
    DriverFaceOption,
    DurationOption,
    EngineOption,
    ExpressionScaleOption,
    FaceOption,
    FlameOption,
    FpsOption,
    GazeOption,
    JitterOption,
    JsonOption,
    ModeOption,
    PlacementOption,
    PoseScaleOption,
    QuietOption,
    SideBySideOption,
    SmoothOption,
    StartOption,
    YawLimitOption,
    yaw_limit,
)
from portrait4d.cli.console import progress_bars, say, say_json, say_speed, tell_engine, warn

if TYPE_CHECKING:
    from portrait4d.options import ReenactOptions


@dataclass(frozen=True)
class ReenactChoices:
    """How a driver moves a source; the fields of `ReenactOptions`."""

    engine: EngineOption = "auto"
    mode: ModeOption = "relative"
    crop: CropOption = True
    side_by_side: SideBySideOption = False
    fps: FpsOption = None
    start: StartOption = 0.0
    duration: DurationOption = None
    yaw: YawLimitOption = "25"
    gaze: GazeOption = "driver"
    placement: PlacementOption = "tracked"
    jitter: JitterOption = None
    flame: FlameOption = None
    expression_scale: ExpressionScaleOption = 1.0
    pose_scale: PoseScaleOption = 1.0
    smooth: SmoothOption = 1.0
    face: FaceOption = 0
    driver_face: DriverFaceOption = 0
    device: DeviceOption = "cpu"

    def to_options(self) -> "ReenactOptions":
        from portrait4d.options import ReenactOptions

        values = dict(vars(self))
        return ReenactOptions(yaw_limit=yaw_limit(values.pop("yaw")), **values)


def reenact(
    source: Annotated[Path, typer.Argument(help="Photo of a face, or an avatar file.")],
    driver: Annotated[Path, typer.Argument(help="Video, picture, folder of frames, or a motion file (.npz).")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Video to write (.mp4), or .png for a one-frame driver.")
    ],
    choices: ReenactChoices,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Make the face in SOURCE move like DRIVER, with the driver's frame rate and sound."""
    from portrait4d.pipeline import reenact as run
    from portrait4d.reenactment.report import describe_gaps

    options = choices.to_options()
    tell_engine(options.engine, is_quiet=quiet)
    with progress_bars(is_quiet=quiet) as progress:
        report = run(source, driver, output, options=options, progress=progress)
    for line in report.warnings:
        warn(line)
    if as_json:
        return say_json(report.to_dict())
    sound = "with sound" if report.has_audio else "without sound"
    say(
        f"{report.output}: {report.num_frames} frames, {report.duration_seconds:.2f} s, {sound}, engine {report.engine}"
    )
    if report.num_kept_frames:
        say(f"{report.num_kept_frames} of these frames were drawn by an earlier run, which was stopped")
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
    choices: ReenactChoices,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Every source with every driver. Run it again to go on: finished items are kept."""
    from portrait4d.cli.batch_command import run_batch_command

    code = run_batch_command(
        sources, drivers, output, manifest=manifest, options=choices.to_options(), as_json=as_json, is_quiet=quiet
    )
    raise typer.Exit(code)
