"""The commands and their options. Each command imports what it needs when it runs."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from portrait4d.cli.choices import (
    CropOption,
    DeviceOption,
    DriverFaceOption,
    DurationOption,
    EngineOption,
    ExpressionScaleOption,
    FaceOption,
    FpsOption,
    GazeOption,
    JsonOption,
    ModeOption,
    PlacementOption,
    PoseScaleOption,
    QuietOption,
    SideBySideOption,
    SmoothOption,
    StartOption,
    TrackedFaceOption,
    YawLimitOption,
    parse_angles,
    yaw_limit,
)
from portrait4d.cli.console import progress_bars, say, say_json, tell_engine, tell_stop, warn
from portrait4d.cli.data_commands import build_data_app
from portrait4d.cli.eg3d_commands import build_eg3d_app
from portrait4d.cli.scene_command import fit_scene
from portrait4d.cli.weights_command import build_weights_app

HELP = """One photo of a face becomes a 4D head that any video can drive. Works offline on a CPU.

Start with:  portrait4d demo
"""


def build_app() -> typer.Typer:
    """The typer application."""
    app = typer.Typer(
        help=HELP, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
    )
    app.callback()(top)
    for command in (demo, reenact, batch, track, avatar, render, fit_scene, doctor, selfcheck):
        app.command()(interruptible(command))
    app.add_typer(build_data_app(), name="data")
    app.add_typer(build_eg3d_app(), name="eg3d")
    app.add_typer(build_weights_app(), name="weights")
    return app


def interruptible(command: Callable[..., Any]) -> Callable[..., Any]:
    """Hands Ctrl-C through typer, which would end with code 1."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except KeyboardInterrupt as stop:
            tell_stop(stop)
            raise typer.Exit(130) from None

    return run


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        import portrait4d

        say(f"portrait4d {portrait4d.__version__}")
        raise typer.Exit


def top(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks; may stand anywhere.")] = False,
) -> None:
    """Options before the command."""


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")] = Path("portrait4d-demo"),
    engine: EngineOption = "auto",
    duration: DurationOption = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Move a bundled public-domain portrait with a bundled motion; writes a video and a contact sheet."""
    from dataclasses import asdict

    from portrait4d.demo import run_demo
    from portrait4d.options import ReenactOptions

    options = ReenactOptions(engine=engine, duration=duration, device=device)
    with progress_bars(is_quiet=quiet) as progress:
        report = run_demo(output, options=options, progress=progress)
    if as_json:
        return say_json(asdict(report))
    say(f"video          {Path(report.video).resolve()}")
    say(f"contact sheet  {Path(report.sheet).resolve()}")
    _say_speed(report.reenactment)


def reenact(
    source: Annotated[Path, typer.Argument(help="Photo of a face, or an avatar file.")],
    driver: Annotated[Path, typer.Argument(help="Video, picture, folder of frames, or a motion file (.npz).")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Video to write (.mp4), or .png for a one-frame driver.")
    ],
    engine: EngineOption = "auto",
    mode: ModeOption = "relative",
    crop: CropOption = True,
    side_by_side: SideBySideOption = False,
    fps: FpsOption = None,
    start: StartOption = 0.0,
    duration: DurationOption = None,
    yaw: YawLimitOption = "25",
    gaze: GazeOption = "driver",
    placement: PlacementOption = "tracked",
    expression_scale: ExpressionScaleOption = 1.0,
    pose_scale: PoseScaleOption = 1.0,
    smooth: SmoothOption = 1.0,
    face: FaceOption = 0,
    driver_face: DriverFaceOption = 0,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Make the face in SOURCE move like DRIVER, with the driver's frame rate and sound."""
    from portrait4d.options import ReenactOptions
    from portrait4d.pipeline import reenact as run
    from portrait4d.report import describe_gaps

    options = ReenactOptions(
        engine=engine, mode=mode, crop=crop, side_by_side=side_by_side, fps=fps, start=start, duration=duration,
        yaw_limit=yaw_limit(yaw), gaze=gaze, placement=placement, expression_scale=expression_scale,
        pose_scale=pose_scale, smooth=smooth, face=face, driver_face=driver_face, device=device,
    )  # fmt: skip
    tell_engine(engine, is_quiet=quiet)
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
    _say_speed(report)


def _say_speed(report: Any) -> None:
    stages = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in report.seconds.items())
    say(f"{stages}; {report.frames_per_second:.1f} frames/s; peak memory {report.peak_memory_mb:.0f} MB")


def batch(
    sources: Annotated[
        str | None, typer.Argument(help="Photo, folder, or quoted pattern such as 'photos/*.jpg'.")
    ] = None,
    drivers: Annotated[str | None, typer.Argument(help="Video, folder, or quoted pattern.")] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")] = Path("portrait4d-batch"),
    manifest: Annotated[
        Path | None, typer.Option(help="Instead of SOURCES and DRIVERS: .csv or .jsonl with source, driver[, output].")
    ] = None,
    engine: EngineOption = "auto",
    mode: ModeOption = "relative",
    crop: CropOption = True,
    side_by_side: SideBySideOption = False,
    fps: FpsOption = None,
    start: StartOption = 0.0,
    duration: DurationOption = None,
    yaw: YawLimitOption = "25",
    gaze: GazeOption = "driver",
    placement: PlacementOption = "tracked",
    expression_scale: ExpressionScaleOption = 1.0,
    pose_scale: PoseScaleOption = 1.0,
    smooth: SmoothOption = 1.0,
    face: FaceOption = 0,
    driver_face: DriverFaceOption = 0,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Every source with every driver. Run it again to go on: finished items are kept."""
    from portrait4d.cli.batch_command import run_batch_command
    from portrait4d.options import ReenactOptions

    options = ReenactOptions(
        engine=engine, mode=mode, crop=crop, side_by_side=side_by_side, fps=fps, start=start, duration=duration,
        yaw_limit=yaw_limit(yaw), gaze=gaze, placement=placement, expression_scale=expression_scale,
        pose_scale=pose_scale, smooth=smooth, face=face, driver_face=driver_face, device=device,
    )  # fmt: skip
    code = run_batch_command(
        sources, drivers, output, manifest=manifest, options=options, as_json=as_json, is_quiet=quiet
    )
    raise typer.Exit(code)


def track(
    driver: Annotated[Path, typer.Argument(help="Video, picture or folder of frames.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Motion file to write (.npz).")],
    fps: FpsOption = None,
    start: StartOption = 0.0,
    duration: DurationOption = None,
    smooth: SmoothOption = 1.0,
    face: TrackedFaceOption = 0,
    engine: EngineOption = "auto",
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Track a driver once, to use it with any number of sources of one engine."""
    from portrait4d.cli.single_commands import run_track
    from portrait4d.options import ReenactOptions

    options = ReenactOptions(
        engine=engine, fps=fps, start=start, duration=duration, smooth=smooth, driver_face=face, device=device
    )
    run_track(driver, output, options=options, as_json=as_json, is_quiet=quiet)


def avatar(
    source: Annotated[list[Path], typer.Argument(help="Photo, or several photos of one person.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Avatar file to write (.safetensors).")],
    engine: EngineOption = "auto",
    face: FaceOption = 0,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Build an avatar and save it; `reenact` and `render` take the file in place of the photo."""
    from portrait4d.cli.single_commands import run_avatar
    from portrait4d.options import ReenactOptions

    run_avatar(source, output, options=ReenactOptions(engine=engine, face=face, device=device), as_json=as_json)


def render(
    source: Annotated[Path, typer.Argument(help="Avatar file or photo.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="By suffix: .mp4 video, .png views, .glb/.ply/.obj mesh in metres.")
    ],
    yaw: Annotated[
        str,
        typer.Option(help="Degrees, comma-separated, > 0 nose to the viewer's right: --yaw=-20,0,20. Default: orbit."),
    ] = "",
    pitch: Annotated[str, typer.Option(help="Degrees, comma-separated, > 0 looks up.")] = "",
    duration: Annotated[float, typer.Option(help="Seconds of video.")] = 4.0,
    fps: Annotated[float, typer.Option(help="Frames per second of video.")] = 25.0,
    engine: EngineOption = "auto",
    face: FaceOption = 0,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Show an avatar from chosen sides: an orbit video, single views, or a textured mesh."""
    from portrait4d.cli.single_commands import run_render
    from portrait4d.options import RenderOptions

    options = RenderOptions(parse_angles(yaw), parse_angles(pitch), duration, fps, engine, face, device)
    run_render(source, output, options=options, as_json=as_json, is_quiet=quiet)


def doctor(as_json: JsonOption = False) -> None:
    """Check the installation: what is there, what is missing, how to get it."""
    from portrait4d.cli.single_commands import run_doctor

    raise typer.Exit(run_doctor(as_json=as_json))


def selfcheck(
    engine: Annotated[str, typer.Argument(help="portrait4d, portrait4d-static, portrait4d-v2 or lift.")],
    photo: Annotated[Path | None, typer.Argument(help="Photo of a face. Default: a bundled portrait.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Picture to write (.png): photo and result.")
    ] = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Check that an engine's weights work: a photo drives itself, and the result is measured."""
    from portrait4d.cli.selfcheck_command import run_selfcheck_command

    raise typer.Exit(run_selfcheck_command(engine, photo, output, device=device, as_json=as_json))
