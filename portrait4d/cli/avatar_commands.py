"""`track`, `avatar` and `render`: one driver, one source, one avatar."""

from pathlib import Path
from typing import Annotated

import typer

from portrait4d.cli.choices import (
    DeviceOption,
    DurationOption,
    EngineOption,
    FaceOption,
    FlameOption,
    FpsOption,
    JitterOption,
    JsonOption,
    QuietOption,
    SmoothOption,
    StartOption,
    TrackedFaceOption,
    parse_angles,
)


def track(
    driver: Annotated[Path, typer.Argument(help="Video, picture or folder of frames.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Motion file to write (.npz).")],
    fps: FpsOption = None,
    start: StartOption = 0.0,
    duration: DurationOption = None,
    smooth: SmoothOption = 1.0,
    face: TrackedFaceOption = 0,
    engine: EngineOption = "auto",
    flame: FlameOption = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Track a driver once, to use it with any number of sources of one engine."""
    from portrait4d.cli.single_commands import run_track
    from portrait4d.options import ReenactOptions

    options = ReenactOptions(
        engine=engine,
        fps=fps,
        start=start,
        duration=duration,
        smooth=smooth,
        driver_face=face,
        flame=flame,
        device=device,
    )
    run_track(driver, output, options=options, as_json=as_json, is_quiet=quiet)


def avatar(
    source: Annotated[list[Path], typer.Argument(help="Photo, or several photos of one person.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Avatar file to write (.safetensors).")],
    engine: EngineOption = "auto",
    face: FaceOption = 0,
    flame: FlameOption = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Build an avatar and save it; `reenact` and `render` take the file in place of the photo."""
    from portrait4d.cli.single_commands import run_avatar
    from portrait4d.options import ReenactOptions

    options = ReenactOptions(engine=engine, face=face, flame=flame, device=device)
    run_avatar(source, output, options=options, as_json=as_json, is_quiet=quiet)


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
    mesh_resolution: Annotated[
        int | None,
        typer.Option(
            help="Samples along a side of the cube that a mesh is taken from; time, memory and file grow with it. "
            "Default: 256 (engines portrait4d... only).",
            show_default=False,
        ),
    ] = None,
    jitter: JitterOption = None,
    engine: EngineOption = "auto",
    face: FaceOption = 0,
    flame: FlameOption = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Show an avatar from chosen sides: an orbit video, single views, or a textured mesh."""
    from portrait4d.cli.single_commands import run_render
    from portrait4d.options import RenderOptions

    options = RenderOptions(
        parse_angles(yaw), parse_angles(pitch), duration=duration, fps=fps, engine=engine, face=face, device=device,
        jitter=jitter, flame=flame, mesh_resolution=mesh_resolution,
    )  # fmt: skip
    run_render(source, output, options=options, as_json=as_json, is_quiet=quiet)
