"""A driver: its kind, frame rate, length and sound, its frames, and its motion if it holds one."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from flame.errors import InputError
from portrait4d.engines.base import Engine
from portrait4d.options import ReenactOptions
from portrait4d.runtime.paths import is_motion_file, require_file
from portrait4d.runtime.progress import Progress
from preprocess.media.video import Frame, VideoInfo, Warn, probe, read_frames
from preprocess.tracking.motion import Motion
from preprocess.tracking.origin import Origin, read_origin
from preprocess.tracking.released_files import PICTURES
from preprocess.tracking.released_motion import is_driver_folder, motion_of_folder

DriverKind = Literal["clip", "folder", "motion", "released"]
"""A video, animated picture or picture; a folder of frames; a motion file; a folder of the released preprocessing."""


@dataclass(frozen=True)
class Driver:
    """What animates a source. Its file is probed at most once, when a property first needs it.

    Attributes:
        path: the file or folder.
        kind: its kind, by its name and the content of a folder.
        options: `start`, `duration` and `fps` select its frames.
        given: the motion, if it was given without a file.
    """

    path: Path
    kind: DriverKind
    options: ReenactOptions
    given: Motion | None = None

    @classmethod
    def open(cls, path: str | Path | Motion, options: ReenactOptions) -> "Driver":
        """Opens the driver at a path, or a motion.

        Raises:
            InputError: nothing is there.
        """
        if isinstance(path, Motion):
            return cls(Path(path.source or "motion"), "motion", options, path)
        path = require_file(Path(path), "driver", folder_allowed=True)
        if is_motion_file(path):
            return cls(path, "motion", options)
        if is_driver_folder(path):
            return cls(path, "released", options)
        return cls(path, "folder" if path.is_dir() else "clip", options)

    @cached_property
    def _origin(self) -> tuple[Path, float] | None:
        """The clip of a motion, if it is still there, and the second of it at which the track begins."""
        if self.kind != "motion":
            return None
        origin = read_origin(self.path) if self.given is None else Origin.from_text(self.given.origin)
        path = None if origin is None else origin.find(self.path)
        return None if origin is None or path is None else (path, origin.start_seconds)

    @property
    def pictures(self) -> Path | None:
        """The file or folder with its pictures and sound; None for a motion file whose clip is not known or gone."""
        if self.kind == "motion":
            return None if self._origin is None else self._origin[0]
        return self.path / PICTURES if self.kind == "released" else self.path

    @property
    def start_seconds(self) -> float:
        """The second of `pictures` at which the cut begins."""
        return self.options.start + (0.0 if self._origin is None else self._origin[1])

    @cached_property
    def info(self) -> VideoInfo:
        """What is known of its pictures before they are read.

        Raises:
            InputError: the file or folder cannot be read as pictures, or a motion file has none.
        """
        if self.pictures is None:
            raise InputError(f"{self.path.name} holds no pictures, and the clip it was tracked in is not here: give it")
        return probe(self.pictures)

    @property
    def frame_rate(self) -> Fraction:
        """Frames per second of the result: the option, or the driver's own."""
        if self.options.fps is not None:
            return Fraction(self.options.fps).limit_denominator(1001)
        return self.info.frame_rate

    @property
    def num_frames(self) -> int | None:
        """The number of frames to be read, for the progress bar; None if the file does not tell its length."""
        seconds = self.info.duration_seconds
        if not seconds:
            return None
        seconds = max(0.0, seconds - self.options.start)
        if self.options.duration is not None:
            seconds = min(seconds, self.options.duration)
        return max(1, round(seconds * float(self.frame_rate)))

    @property
    def has_sound(self) -> bool:
        """Whether it is a video with sound, or the motion file of one that is still there."""
        return self.kind in ("clip", "motion") and self.pictures is not None and self.info.has_audio

    def frames(self, frame_rate: Fraction, *, warn: Warn) -> Iterator[Frame]:
        """Reads its frames at a constant rate (frames per second); `warn` is told of damage that was skipped."""
        return read_frames(
            self.info, start=self.start_seconds, duration=self.options.duration, frame_rate=frame_rate, warn=warn
        )

    def saved_motion(self) -> Motion:
        """Reads the motion of a motion file, or takes that given, under `start`, `duration` and `fps`.

        Raises:
            InputError: the file is damaged, or ends before `start`.
        """
        return cut_motion(Motion.load(self.path) if self.given is None else self.given, self.options)

    def released_motion(self, engine: Engine, *, progress: Progress) -> Motion:
        """Reads the motion of a folder of the released preprocessing, under `start`, `duration` and `fps`.

        Args:
            engine: its head model and motion encoder read the folder.
            progress: called after each frame.

        Raises:
            InputError: the folder is damaged, of another head model, or ends before `start`.
        """
        motion = motion_of_folder(
            self.path,
            engine.head_model,
            motion_encoder=engine.motion_encoder,
            frame_rate=self.frame_rate,
            progress=lambda done: progress("track", done, None),
        )
        return cut_motion(motion, self.options)


def cut_motion(motion: Motion, options: ReenactOptions) -> Motion:
    """Selects the frames of a motion that `start`, `duration` and `fps` ask for; its time stamps start at 0 again.

    Each new frame is the nearest old one.

    Raises:
        InputError: the motion ends before `start`.
    """
    rate = motion.frame_rate if options.fps is None else Fraction(options.fps).limit_denominator(1001)
    length = len(motion) / float(motion.frame_rate)
    if options.start >= length:
        raise InputError(f"expected --start below the driver's {length:.2f} s, got {options.start:g}: give less")
    seconds = length - options.start
    if options.duration is not None:
        seconds = min(seconds, options.duration)
    moments = options.start + np.arange(max(1, round(seconds * float(rate)))) / float(rate)
    nearest = np.clip(np.floor(moments * float(motion.frame_rate) + 0.5).astype(int), 0, len(motion) - 1)
    return _take(motion, nearest, rate)


def _take(motion: Motion, frames: np.ndarray, frame_rate: Fraction) -> Motion:
    """The frames of a motion with the given numbers [T], at another rate."""
    length = len(motion)
    per_frame = {}
    for item in dataclasses.fields(motion):
        value = getattr(motion, item.name)
        is_per_frame = isinstance(value, np.ndarray) and item.name not in ("shape", "crop_matrix")
        if is_per_frame and value.shape[:1] == (length,):
            per_frame[item.name] = value[frames]
    per_frame["seconds"] = np.arange(len(frames)) / float(frame_rate)
    return dataclasses.replace(motion, frame_rate=frame_rate, **per_frame)
