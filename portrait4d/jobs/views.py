"""Renders an avatar without a driver: a video of an orbit or of given angles, single views as pictures, or a mesh."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from flame.errors import InputError
from flame.heads.open_head import OpenHead
from portrait4d.engines.base import Avatar, is_avatar
from portrait4d.engines.choose import choose_engine, named_files
from portrait4d.engines.lift.avatar import LiftAvatar
from portrait4d.engines.lift.whole_head import whole_head
from portrait4d.engines.own_drive import orbit_drive
from portrait4d.options import RenderOptions
from portrait4d.pipeline import build_source
from portrait4d.reenactment.head_crops import render_drives
from portrait4d.reenactment.models import Models, check_models, load_models
from portrait4d.reenactment.output import scaled, write_video
from portrait4d.reenactment.result_name import check_result
from portrait4d.reenactment.turn_warnings import view_warnings
from portrait4d.render.shape import ShapeConfig
from portrait4d.runtime.paths import MESH_SUFFIXES, require_file
from portrait4d.runtime.progress import Progress, ignore_progress
from portrait4d.runtime.streams import one_torch_thread
from preprocess.files.file_check import check_not_input
from preprocess.media.image import write_png
from preprocess.media.rigged_glb import write_rigged_glb

ORBIT_YAW_DEGREES = 20.0
ORBIT_PITCH_DEGREES = 8.0


@dataclass(frozen=True)
class RenderReport:
    """The files that were written, the name of the engine, and its warnings about the source."""

    files: tuple[str, ...]
    engine: str
    warnings: tuple[str, ...]


@one_torch_thread()
def render_avatar(
    source: str | Path | Avatar,
    output: str | Path,
    *,
    options: RenderOptions | None = None,
    models: Models | None = None,
    progress: Progress = ignore_progress,
) -> RenderReport:
    """Renders a photo, an avatar file or an avatar from chosen sides; the suffix of `output` decides what is written.

    A video, an animation or a folder of pictures (no suffix) shows an orbit or a path through the key angles, `.png` is
    one picture per key angle, `.glb`, `.ply` or `.obj` the mesh in metres.

    Raises:
        InputError: A file cannot be used, an option does not apply to the output, or the models do not fit the options.
    """
    options = options or (RenderOptions() if models is None else RenderOptions(device=models.device))
    output = Path(output)
    check_result(output, options, also=MESH_SUFFIXES)
    source = source if is_avatar(source) else require_file(Path(source), "photo or avatar file")
    _check_use(options, output)
    names = picture_names(output, options) if output.suffix.lower() == ".png" else [output]
    for name in names:
        check_not_input(name, None if is_avatar(source) else source, options.flame, *named_files(options.engine))
    models = load_models(options) if models is None else check_models(models, options)
    avatar = build_source(source, models=models, face=options.face).avatar
    suffix, turned = output.suffix.lower(), []
    if suffix in MESH_SUFFIXES:
        _write_mesh(avatar, output, options, models)
        files = [output]
    elif suffix == ".png":
        turned = view_warnings(*key_angles(options))
        files = _write_pictures(avatar, output, options, models)
    else:
        yaw, pitch = video_angles(options)
        turned = view_warnings(yaw, pitch)
        frames = _render_angles(avatar, yaw, pitch, options, models)
        rate = Fraction(options.fps).limit_denominator(1001)
        write_video(output, frames, num_frames=len(yaw), frame_rate=rate, quality=options.quality, progress=progress)
        files = [output]
    return RenderReport(tuple(str(path) for path in files), avatar.engine, (*avatar.warnings, *turned))


def _check_use(options: RenderOptions, output: Path) -> None:
    """Refuses options that do not apply to this kind of output."""
    is_mesh = output.suffix.lower() in MESH_SUFFIXES
    if options.mesh_resolution is not None and not is_mesh:
        raise InputError(
            f"--mesh-resolution is for meshes ({', '.join(sorted(MESH_SUFFIXES))}), got {output.name}: drop it"
        )
    if options.mesh_resolution is not None:
        ShapeConfig(resolution=options.mesh_resolution)  # raises if it is out of range
    if options.whole_head and output.suffix.lower() != ".glb":
        raise InputError(f"--whole-head is for .glb, which holds expressions and joints, got {output.name}: rename it")
    if options.whole_head and choose_engine(options.engine).name != "lift":
        raise InputError(
            f"--whole-head needs the head model of engine lift, got engine {choose_engine(options.engine).name}: add "
            "--engine lift"
        )
    if options.jitter is not None and is_mesh:
        raise InputError(f"--jitter is for pictures and videos, got the mesh {output.name}: drop it")


def video_angles(options: RenderOptions) -> tuple[np.ndarray, np.ndarray]:
    """Yaw and pitch `[T]` of all frames in degrees, public signs: an ellipse, or a smooth path through key angles."""
    num_frames = max(1, round(options.duration * options.fps))
    if not options.yaw_degrees and not options.pitch_degrees:
        phase = 2 * np.pi * np.arange(num_frames) / num_frames
        return ORBIT_YAW_DEGREES * np.sin(phase), ORBIT_PITCH_DEGREES * (1 - np.cos(phase)) / 2
    yaw, pitch = key_angles(options)
    position = np.linspace(0, len(yaw) - 1, num_frames)
    step = np.floor(position)
    eased = step + (position - step) ** 2 * (3 - 2 * (position - step))
    keys = np.arange(len(yaw))
    return np.interp(eased, keys, yaw), np.interp(eased, keys, pitch)


def key_angles(options: RenderOptions) -> tuple[np.ndarray, np.ndarray]:
    """The key angles in degrees as yaw and pitch `[N]`; a single value applies to all, no value means zero."""
    count = max(len(options.yaw_degrees), len(options.pitch_degrees), 1)
    yaw = np.resize(np.array(options.yaw_degrees or (0.0,), dtype=np.float64), count)
    pitch = np.resize(np.array(options.pitch_degrees or (0.0,), dtype=np.float64), count)
    return yaw, pitch


def picture_names(output: Path, options: RenderOptions) -> list[Path]:
    """The path of each key angle's picture: `output` itself for a single one, otherwise names with the degrees.

    Raises:
        InputError: two pictures would get the same name.
    """
    yaw, pitch = key_angles(options)
    if len(yaw) == 1:
        return [output]
    angles = zip(yaw, pitch, strict=True)
    names = [output.with_name(f"{output.stem}_yaw{left:+.0f}_pitch{up:+.0f}.png") for left, up in angles]
    if len(set(names)) < len(names):
        raise InputError("expected different angles for each picture, got the same whole degrees twice: drop one")
    return names


def _write_mesh(avatar: Avatar, output: Path, options: RenderOptions, models: Models) -> None:
    if options.whole_head:
        model = models.head_model
        assert isinstance(avatar, LiftAvatar) and isinstance(model, OpenHead), "the engine was checked before"
        return write_rigged_glb(output, whole_head(avatar, model))
    models.engine.mesh(avatar, resolution=options.mesh_resolution).write(output)


def _write_pictures(avatar: Avatar, output: Path, options: RenderOptions, models: Models) -> list[Path]:
    yaw, pitch = key_angles(options)
    names = picture_names(output, options)
    for name, image in zip(names, _render_angles(avatar, yaw, pitch, options, models), strict=True):
        write_png(name, image)
    return names


def _render_angles(
    avatar: Avatar, yaw: np.ndarray, pitch: np.ndarray, options: RenderOptions, models: Models
) -> Iterator[np.ndarray]:
    """Renders pictures uint8 `[S, S, C]` of the avatar in the source's expression."""
    drive = orbit_drive(avatar, models.head_model, yaw, pitch, jitter=options.jitter)
    drawn = render_drives(avatar, [drive], models=models, device=models.device, has_alpha=options.transparent)
    return scaled(drawn, options.size)
