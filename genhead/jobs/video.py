"""Videos of GenHead's heads side by side: from all around, with named expressions, or driven by a motion file."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from flame.errors import InputError
from flame.geometry.camera import Camera
from flame.geometry.rotation import axis_angle_to_matrix
from flame.heads.head_model import HeadModel, HeadParams
from genhead.generator import GenHeadGenerator
from genhead.jobs.faces import face_params, moved_params, with_settings
from genhead.jobs.heads import seed_volume, view_cameras
from genhead.jobs.options import HeadVideoOptions, VideoPath
from genhead.training.grid import frontal_camera
from genhead.volume import HeadImages
from portrait4d.eg3d.cameras import ORBIT_PITCH_DEGREES, ORBIT_YAW_DEGREES
from portrait4d.jobs.eg3d.depth_pictures import depth_limits, depth_to_grey
from portrait4d.reenactment.compose import beside
from portrait4d.reenactment.output import write_video
from portrait4d.runtime.device import check_device
from portrait4d.runtime.paths import MOVING_SUFFIXES, check_output
from portrait4d.runtime.progress import Progress, ignore_progress
from preprocess.files.file_check import check_not_input
from preprocess.media.image import to_uint8
from preprocess.tracking.motion import Motion

_SWEEP = (
    *("jawOpen", "mouthSmileLeft+mouthSmileRight", "mouthFrownLeft+mouthFrownRight", "mouthPucker"),
    *("eyeBlinkLeft+eyeBlinkRight", "eyeBlinkLeft", "browInnerUp+browOuterUpLeft+browOuterUpRight"),
    *("browDownLeft+browDownRight", "jaw=0.3", "eyes_y=0.3", "eyes_y=-0.3"),
)
"""Shown where the head model has it. The joints are in every head model."""


@dataclass(frozen=True)
class HeadVideoReport:
    """What was written: the file, its length and rate, what it shows, and the names of a sweep."""

    output: str
    num_frames: int
    frame_rate: str
    seeds: tuple[int, ...]
    path: VideoPath
    sweep: tuple[str, ...]


@dataclass(frozen=True)
class Script:
    """Parameters and cameras of T frames, and the frame rate.

    Attributes:
        params: of T heads; the shape is the same in all.
        cameras: T of them.
        frame_rate: frames per second.
        sweep: names of what is shown one after another.
    """

    params: HeadParams
    cameras: Camera
    frame_rate: Fraction
    sweep: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.cameras)


def write_head_video(
    network: str | Path,
    output: str | Path,
    *,
    options: HeadVideoOptions,
    device: str = "cpu",
    progress: Progress = ignore_progress,
) -> HeadVideoReport:
    """Writes the video; the file appears once it is complete.

    Args:
        network: name of released weights, a checkpoint folder, or an official `.pkl`.
        output: the video file.
        options: seeds, and what they do.
        device: name of a torch device.
        progress: called after each frame.

    Raises:
        InputError: the network, the motion, a setting, the device or the output cannot be used.
    """
    output = Path(output)
    check_output(output, MOVING_SUFFIXES)
    check_not_input(output, network, options.face.motion)
    device = check_device(device)
    generator = GenHeadGenerator.from_pretrained(network, device=device)
    script = write_script(generator, options)
    frames = render_script(generator, script, options)
    write_video(output, frames, num_frames=len(script), frame_rate=script.frame_rate, progress=progress)
    return HeadVideoReport(str(output), len(script), str(script.frame_rate), options.seeds, options.path, script.sweep)


def write_script(generator: GenHeadGenerator, options: HeadVideoOptions) -> Script:
    """What heads and cameras do frame by frame.

    Raises:
        InputError: an expression is unknown, or the motion is of another head model.
    """
    model, config, face = generator.head.model, generator.config, options.face
    rate, count = Fraction(options.fps).limit_denominator(1001), options.frames_per_step
    if options.path == "orbit":
        params = face_params(model, face)
        phase = torch.arange(count) * (2 * math.pi / count)
        yaw, pitch = ORBIT_YAW_DEGREES * torch.sin(phase), ORBIT_PITCH_DEGREES * torch.cos(phase)
        return Script(_repeated(params, count), view_cameras(config, yaw, pitch), rate)
    if options.path == "sweep":
        still = face_params(model, face)
        sweep = options.sweep or _known(model)
        steps = [0.5 - 0.5 * math.cos(2 * math.pi * index / count) for index in range(count)]
        frames = [
            with_settings(model, still, _settings(name), strength=strength) for name in sweep for strength in steps
        ]
        return Script(HeadParams.concatenate(frames), _expanded(frontal_camera(config), len(frames)), rate, sweep)
    if options.path == "drive" and face.motion is not None:
        motion = Motion.load(face.motion)
        frames = [
            with_settings(model, moved_params(model, motion, frame), face.settings) for frame in range(len(motion))
        ]
        return Script(HeadParams.concatenate(frames), driven_cameras(frontal_camera(config), motion), motion.frame_rate)
    raise ValueError(f"path must be 'orbit', 'sweep' or 'drive' with a motion, got {options.path!r}")


def driven_cameras(front: Camera, motion: Motion) -> Camera:
    """Cameras around the world's origin that show the head turned as in each frame, always at one distance.

    The network was trained with turned cameras and a neck at rest, so the head's turn is the camera's.
    """
    rotation = axis_angle_to_matrix(torch.from_numpy(motion.rotation))
    cam2world = torch.eye(4).repeat(len(motion), 1, 1)
    cam2world[:, :3, :3] = rotation.transpose(1, 2)
    cam2world[:, :3, 3] = front.cam2world[0, :3, 3].norm() * cam2world[:, :3, 2]
    return Camera(cam2world, front.intrinsics.expand(len(motion), 3, 3))


@torch.no_grad()
def render_script(generator: GenHeadGenerator, script: Script, options: HeadVideoOptions) -> Iterator[np.ndarray]:
    """Renders frames uint8 `[H, W, 3]`; depth is scaled by the limits of the first frame, so it does not flicker."""
    like = generator.backbone.mapping.w_avg
    first = script.params[0].to(like.device)
    volumes = [seed_volume(generator, seed, first, options.style) for seed in options.seeds]
    limits: tuple[float, float] | None = None
    for index in range(len(script)):
        params = script.params[index].to(like.device)
        posed, camera = generator.head.pose(params), script.cameras[index]
        prepared = generator.prepare(camera, posed)
        views = [generator.render(volume, camera, prepared) for volume in volumes]
        if options.shown == "depth" and limits is None:
            limits = depth_limits(*(_stacked(views, name) for name in ("depth", "alpha")))
        yield beside(*(_frame(view, options.shown, limits) for view in views))


def _frame(view: HeadImages, shown: str, limits: tuple[float, float] | None) -> np.ndarray:
    if shown == "image":
        return to_uint8(view.image)[0]
    if shown == "raw":
        return to_uint8(view.image_raw)[0]
    if shown == "depth" and limits is not None:
        grey = depth_to_grey(view.depth[0, 0].float().cpu().numpy(), limits)
        return np.repeat(grey[..., None], 3, 2)
    raise ValueError(f"shown must be 'image', 'raw' or 'depth' with limits, got {shown!r}")


def _stacked(views: list[HeadImages], name: str) -> np.ndarray:
    return torch.cat([getattr(view, name) for view in views]).float().cpu().numpy()


def _settings(step: str) -> list[str]:
    """The settings of `NAME+NAME=VALUE`."""
    return [part if "=" in part else f"{part}=1" for part in (part.strip() for part in step.split("+"))]


def _known(model: HeadModel) -> tuple[str, ...]:
    """The expressions of the default sweep that a head model has."""
    known = []
    for step in _SWEEP:
        try:
            with_settings(model, HeadParams.zeros(model), _settings(step))
        except InputError:
            continue
        known.append(step)
    return tuple(known)


def _repeated(params: HeadParams, count: int) -> HeadParams:
    return params.map(lambda value: value.expand(count, *value.shape[1:]))


def _expanded(camera: Camera, count: int) -> Camera:
    return Camera(camera.cam2world.expand(count, 4, 4), camera.intrinsics.expand(count, 3, 3))
