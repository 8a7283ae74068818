"""The file that a page asks for: what it is of, whether it can be, what it is called, and its writing."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from flame.errors import InputError
from portrait4d.live.by_hand import ByHand, motion_by_hand
from portrait4d.live.key_line import KeyLine, motion_of_line
from portrait4d.live.puppet import Puppet
from portrait4d.options import ReenactOptions
from portrait4d.pipeline import Source
from portrait4d.reenactment.models import Models
from portrait4d.reenactment.source import save_source
from portrait4d.runtime.progress import Progress
from portrait4d.studio.files import Clip, turn_poses, write_clip, write_head, write_picture, write_poses
from portrait4d.studio.messages import WantFile
from preprocess.tracking.motion import Motion

MOVING = ("mp4", "webm", "gif", "webp")
HOLDS_OPACITY = ("webm", "webp", "png")

_SUFFIXES = {"motion": "npz", "avatar": "safetensors", "mesh": "glb", "head": "glb"}

_CONTENTS = {"png": "picture", "avatar": "avatar", "mesh": "surface", "head": "head"}
_CONTENTS_BY_MOVES = {"hand": "turn", "keys": "keyframes", "clip": "clip"}
"""The second part of a file's name."""


@dataclass(frozen=True)
class Shown:
    """What a tab shows when it asks for a file.

    Attributes:
        ready: the photo's avatar.
        puppet: the same, driven.
        by_hand: what is set.
        line: the keyframes, if there are any.
        clip: the loaded clip or motion.
        last: what drove the last frame, and the clip whose neutral frame counted.
        options: how motion is retargeted.
    """

    ready: Source
    puppet: Puppet
    by_hand: ByHand
    line: KeyLine | None
    clip: Clip | None
    last: tuple[Motion | None, Motion | None]
    options: ReenactOptions


def suffix_of_export(wanted: WantFile) -> str:
    """The suffix of a wanted file, without the dot."""
    return _SUFFIXES.get(wanted.what, wanted.what)


def name_of_export(wanted: WantFile, taken: Collection[str]) -> str:
    """What a wanted file is called, such as "photo-keyframes.gif"; numbered where the name is taken."""
    content = _CONTENTS.get(wanted.what) or _CONTENTS_BY_MOVES[wanted.of]
    if wanted.what == "motion" and wanted.of == "hand":
        content = "pose"
    stem, suffix = f"{wanted.name}-{content}", suffix_of_export(wanted)
    names = (f"{stem}{'' if number == 1 else f'-{number}'}.{suffix}" for number in range(1, len(taken) + 2))
    return next(name for name in names if name not in taken)


def check_export(wanted: WantFile, shown: Shown) -> None:
    """Refuses a file that cannot be made, before any work is done.

    Raises:
        InputError: what it is of is not there, or its kind cannot hold what is asked.
    """
    if wanted.of == "keys" and shown.line is None:
        raise InputError("expected keyframes, got none: add one, or choose another motion for the file")
    if wanted.of == "clip" and shown.clip is None:
        raise InputError("expected a clip or motion, got none: load one, or choose another motion for the file")
    if wanted.is_transparent and wanted.what not in HOLDS_OPACITY:
        raise InputError(f"expected {', '.join(HOLDS_OPACITY)} for a transparent background, got {wanted.what}")
    if wanted.is_side_by_side and not (wanted.of == "clip" and wanted.what in MOVING):
        raise InputError("expected a moving picture of a clip for side by side: clear it, or choose the clip")
    if wanted.is_side_by_side and wanted.is_transparent:
        raise InputError("expected side by side or a transparent background, got both: clear one")


def write_export(path: Path, wanted: WantFile, shown: Shown, *, models: Models, progress: Progress) -> tuple[str, ...]:
    """Writes a file that `check_export` let through; returns warnings.

    Raises:
        InputError: it cannot be made after all: the engine has no such mesh, or there is no picture to set beside.
    """
    warnings = _write(path, wanted, shown, models, progress)
    progress("write", 1, 1)  # the last moment to cancel
    return warnings


def _write(path: Path, wanted: WantFile, shown: Shown, models: Models, progress: Progress) -> tuple[str, ...]:
    avatar = shown.puppet.avatar
    match wanted.what:
        case "png":
            drive = shown.puppet.drive(shown.last[0], shown.by_hand, neutral=shown.last[1])
            write_picture(path, shown.puppet, drive, models, is_transparent=wanted.is_transparent)
        case "avatar":
            save_source(shown.ready, path)
        case "mesh":
            models.engine.mesh(avatar).write(path)
        case "head":
            write_head(path, avatar, models)
        case "motion":
            motion_of(wanted, shown, models).save(path)
        case "mp4" | "webm" | "gif" | "webp":
            return _write_moving(path, wanted, shown, models, progress)
    return ()


def motion_of(wanted: WantFile, shown: Shown, models: Models) -> Motion:
    """The motion of a wanted file; by hand alone it has one frame."""
    still, model = shown.puppet.avatar.motion, models.head_model
    if wanted.of == "keys" and shown.line is not None:
        return motion_of_line(shown.line, still, model)
    return motion_by_hand(shown.clip.motion if wanted.of == "clip" and shown.clip else still, shown.by_hand, model)


def _write_moving(path: Path, wanted: WantFile, shown: Shown, models: Models, progress: Progress) -> tuple[str, ...]:
    options = dataclasses.replace(
        shown.options, side_by_side=wanted.is_side_by_side, transparent=wanted.is_transparent, size=wanted.size
    )
    if wanted.of == "clip" and shown.clip is not None:
        return write_clip(
            path, shown.ready, shown.clip, by_hand=shown.by_hand, options=options, models=models, progress=progress
        )
    poses = shown.line.frames() if wanted.of == "keys" and shown.line else turn_poses(shown.by_hand)
    write_poses(path, shown.puppet, poses, options=options, models=models, progress=progress)
    return ()
