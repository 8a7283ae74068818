"""Results as files: a picture, a moving picture of the clip or of poses by hand, the whole head."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flame.errors import InputError
from flame.heads.open_head import OpenHead
from portrait4d.engines.base import Avatar, Drive
from portrait4d.engines.lift.avatar import LiftAvatar
from portrait4d.engines.lift.whole_head import whole_head
from portrait4d.engines.retarget import retarget_parts
from portrait4d.live.by_hand import TURN_DEGREES, ByHand, move_by_hand
from portrait4d.live.key_line import LINE_RATE
from portrait4d.live.puppet import Puppet
from portrait4d.options import ReenactOptions
from portrait4d.pipeline import Source, result_frames
from portrait4d.reenactment.driver import Driver
from portrait4d.reenactment.head_crops import render_drive, render_drives
from portrait4d.reenactment.models import Models
from portrait4d.reenactment.output import scaled, write_video
from portrait4d.reenactment.sound import wanted_sound
from portrait4d.runtime.progress import Progress
from preprocess.media.image import write_png
from preprocess.media.rigged_glb import write_rigged_glb
from preprocess.tracking.motion import Motion

TURN_FRAMES, TURN_YAW_DEGREES = 100, 20.0
"""Of the turn that shows a head without a driver."""

RATE = LINE_RATE


@dataclass(frozen=True)
class Clip:
    """A driver that was loaded: a clip with its track, or a motion file."""

    driver: Driver
    motion: Motion


def write_picture(path: Path, puppet: Puppet, drive: Drive, models: Models, *, is_transparent: bool) -> None:
    """Writes one frame as PNG, with the person's opacity if it is to be transparent."""
    write_png(path, render_drive(puppet.avatar, drive, models=models, has_alpha=is_transparent)[0])


def write_clip(
    path: Path,
    ready: Source,
    clip: Clip,
    *,
    by_hand: ByHand,
    options: ReenactOptions,
    models: Models,
    progress: Progress,
) -> tuple[str, ...]:
    """Writes the head driven by a clip, with what is set by hand on top, and the clip's sound; returns warnings.

    Raises:
        InputError: side by side is asked for, and the source or the driver has no pictures.
    """
    if options.side_by_side and clip.driver.kind == "motion":
        raise InputError("expected a video beside the head, got a motion file, which has none: clear side by side")
    model, avatar = models.head_model, ready.avatar
    parts = retarget_parts(clip.motion, avatar, options, model)
    drives = (move_by_hand(part, by_hand, avatar, model) for part in parts)
    # a motion file's origin is a path that the page's user wrote: it is never opened
    sound = wanted_sound(path, clip.driver, options) if clip.driver.kind == "clip" else None
    crops = render_drives(avatar, drives, models=models, device=models.device, has_alpha=options.transparent)
    with closing(crops):
        frames = result_frames(ready, crops, motion=clip.motion, options=options, driver=clip.driver)
        written = write_video(
            path,
            frames,
            num_frames=len(clip.motion),
            frame_rate=clip.motion.frame_rate,
            sound=sound,
            progress=progress,
        )
    return written.warnings


def write_poses(
    path: Path,
    puppet: Puppet,
    poses: Sequence[ByHand],
    *,
    options: ReenactOptions,
    models: Models,
    progress: Progress,
) -> None:
    """Writes a moving picture of the head without a driver, a frame for each pose."""
    drives = (puppet.drive(None, pose) for pose in poses)
    crops = render_drives(puppet.avatar, drives, models=models, device=models.device, has_alpha=options.transparent)
    with closing(crops):
        write_video(path, scaled(crops, options.size), num_frames=len(poses), frame_rate=RATE, progress=progress)


def turn_poses(by_hand: ByHand) -> list[ByHand]:
    """Poses in which the head, as it is set by hand, turns to both sides once."""
    sway = TURN_YAW_DEGREES * np.sin(2 * np.pi * np.arange(TURN_FRAMES) / TURN_FRAMES)
    yaws = (by_hand.yaw_degrees + sway).clip(-TURN_DEGREES, TURN_DEGREES)
    return [dataclasses.replace(by_hand, yaw_degrees=yaw) for yaw in yaws.tolist()]


def write_head(path: Path, avatar: Avatar, models: Models) -> None:
    """Writes the whole head with ARKit morph targets and joints, `.glb`.

    Raises:
        InputError: the engine has no such head.
    """
    model = models.head_model
    if not isinstance(avatar, LiftAvatar) or not isinstance(model, OpenHead):
        raise InputError(f"expected engine lift for a whole head, got {models.engine.name}: choose the mesh")
    write_rigged_glb(path, whole_head(avatar, model))
