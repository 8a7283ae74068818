"""The commands `track`, `avatar`, `render` and `pose`: each handles one driver, one source or one avatar."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from portrait4d.cli.console import Telling, progress_bars, say, say_json, tell_engine, warn
from portrait4d.cli.option_groups import Shown
from portrait4d.cli.slow_work import SECONDS_PER_VIEW, AskOptions, ask_if_slow
from portrait4d.cli.spellings import Spelling, parse_gaze, parse_settings
from portrait4d.options import (
    POSED,
    AvatarFileOptions,
    AvatarOptions,
    PoseOptions,
    RenderOptions,
    TrackFileOptions,
    TrackOptions,
)
from portrait4d.reenactment.result_name import check_result
from portrait4d.runtime.paths import (
    AVATAR_SUFFIXES,
    BLENDSHAPE_SUFFIXES,
    MESH_SUFFIXES,
    MOTION_SUFFIXES,
    MOVING_SUFFIXES,
    PARAMETER_SUFFIXES,
    check_output,
)
from preprocess.files.file_check import check_not_input

TRACK = Shown(
    ("fps", "start", "duration", "smooth", "driver_face", "engine", "flame", "device"),
    {"driver_face": Spelling(("--face", "--driver-face"))},
)
AVATAR = Shown(("engine", "face", "flame", "device"))
AVATAR_FILE = Shown(("has_photo",), {"has_photo": Spelling(("--photo/--no-photo",))})
RENDER = Shown(
    (
        *("yaw_degrees", "pitch_degrees", "size", "quality", "transparent", "duration", "fps"),
        *("mesh_resolution", "whole_head", "jitter"),
        *("engine", "face", "flame", "device"),
    )
)
_DEGREES = Spelling(type=float | None, metavar="DEGREES")

POSE = Shown(
    (*POSED, "others", "jitter", "engine", "face", "flame", "device"),
    {
        "gaze": Spelling(type=str | None, parse=parse_gaze, metavar="RIGHT,UP"),
        "yaw_degrees": _DEGREES,
        "pitch_degrees": _DEGREES,
        "roll_degrees": _DEGREES,
        "others": Spelling(("--set",), list[str], parse_settings, list, "NAME=VALUE", has_shown_default=False),
    },
)


def track(
    driver: Annotated[Path, typer.Argument(help="Video, picture or folder of frames.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Motion file to write (.npz), or its 52 expressions (.csv).")
    ],
    options: Annotated[TrackOptions, TRACK],
    files: TrackFileOptions,
    tell: Telling,
) -> None:
    """Track a driver once, to use its motion with any number of sources of one engine."""
    check_output(output, MOTION_SUFFIXES | BLENDSHAPE_SUFFIXES)
    if files.parameters is not None:
        check_output(Path(files.parameters), PARAMETER_SUFFIXES)
    from portrait4d.jobs.track import run_track
    from portrait4d.reenactment.report import describe_gaps, find_gaps

    tell_engine(options.engine, is_quiet=tell.is_quiet or files.head_model is not None)
    with progress_bars(is_quiet=tell.is_quiet) as progress:
        motion = run_track(driver, output, options=options, files=files, progress=progress)
    gaps = find_gaps(motion)
    for line in motion.warnings:
        warn(line)
    if tell.as_json:
        return say_json(
            {
                "driver": str(driver),
                "output": str(output),
                "num_frames": len(motion),
                "frame_rate": str(motion.frame_rate),
                "num_held": int((~motion.valid).sum()),
                "mean_fit_error": round(float(motion.fit_error.mean()), 5),
                "gaps": gaps,
                "warnings": motion.warnings,
            }
        )
    rate = float(motion.frame_rate)
    error = 100 * float(motion.fit_error.mean())
    say(f"{output}: {len(motion)} frames at {rate:g} per second, fit error {error:.2f} % of the outer-eye distance")
    if files.parameters is not None:
        say(files.parameters)
    for line in describe_gaps(gaps):
        say(line)


def avatar(
    source: Annotated[list[Path], typer.Argument(help="Photo, or several photos of one person.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Avatar file to write (.safetensors).")],
    options: Annotated[AvatarOptions, AVATAR],
    kept: Annotated[AvatarFileOptions, AVATAR_FILE],
    tell: Telling,
) -> None:
    """Build an avatar and save it; `reenact` and `render` take the file in place of the photo."""
    check_output(output, AVATAR_SUFFIXES)
    from portrait4d.engines.choose import named_files
    from portrait4d.pipeline import build_source, load_models
    from portrait4d.reenactment.source import save_source

    check_not_input(output, *source, options.flame, *named_files(options.engine))
    tell_engine(options.engine, is_quiet=tell.is_quiet or tell.as_json)
    built = build_source(source, models=load_models(options), face=options.face)
    made = built.avatar
    save_source(built, output, has_photo=kept.has_photo)
    for line in made.warnings:
        warn(line)
    if tell.as_json:
        report = {"output": str(output), "engine": made.engine, "shown": str(built.path)}
        return say_json({**report, "warnings": list(made.warnings)})
    shown = f", shows {built.path} (of {len(source)} photos)" if len(source) > 1 else ""
    say(f"{output}: engine {made.engine}{shown}, {output.stat().st_size / 1e6:.1f} MB")


def render(
    source: Annotated[Path, typer.Argument(help="Avatar file or photo.")],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            help="By suffix: .mp4, .webm, .gif, .webp orbit, .png views, .glb/.ply/.obj mesh; none: a folder.",
        ),
    ],
    options: Annotated[RenderOptions, RENDER],
    ask: AskOptions,
    tell: Telling,
) -> None:
    """Render an avatar without a driver: an orbit video, single views, or a mesh."""
    check_result(output, options, also=MESH_SUFFIXES)
    from portrait4d.jobs.views import render_avatar, video_angles

    tell_engine(options.engine, is_quiet=tell.is_quiet)
    if output.suffix.lower() in MOVING_SUFFIXES:
        num_frames = len(video_angles(options)[0])
        ask_if_slow(options, lambda: num_frames, seconds_each=SECONDS_PER_VIEW, is_agreed=ask.is_agreed)
    with progress_bars(is_quiet=tell.is_quiet) as progress:
        report = render_avatar(source, output, options=options, progress=progress)
    for line in report.warnings:
        warn(line)
    if tell.as_json:
        return say_json(asdict(report))
    for file in report.files:
        say(file)


def pose(
    source: Annotated[Path, typer.Argument(help="Photo or avatar file.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Picture to write (.png).")],
    options: Annotated[PoseOptions, POSE],
    tell: Telling,
) -> None:
    """Give a face another expression, gaze or head pose by name: --smile 0.5 --gaze 0.2,0 --yaw 10."""
    from portrait4d.jobs.pose import pose_avatar, with_engine

    options = with_engine(options)
    tell_engine(options.engine, is_quiet=tell.is_quiet or tell.as_json)
    report = pose_avatar(source, output, options=options)
    for line in report.warnings:
        warn(line)
    if tell.as_json:
        return say_json(asdict(report))
    changes = ", ".join(f"{name} {value}" for name, value in report.changes.items()) or "nothing changed"
    say(f"{report.output}: engine {report.engine}, {changes}")
