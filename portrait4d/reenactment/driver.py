"""The driver as a file: what kind it is, its frame rate and length, its frames, a cut of its motion."""

import dataclasses
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from flame.errors import InputError
from portrait4d.engines.base import Engine
from portrait4d.options import ReenactOptions
from portrait4d.runtime.paths import is_motion_file
from portrait4d.runtime.progress import Progress
from preprocess.media.video import Frame, Warn, probe, read_frames
from preprocess.tracking.motion import Motion
from preprocess.tracking.released_files import PICTURES
from preprocess.tracking.released_motion import is_driver_folder, motion_of_folder


def driver_frame_rate(path: Path, options: ReenactOptions) -> Fraction:
    """Frames per second of the result: the option, or the driver's own."""
    if options.fps is not None:
        return Fraction(options.fps).limit_denominator(1001)
    return probe(_shown(path)).frame_rate


def expected_frames(path: Path, options: ReenactOptions, frame_rate: Fraction) -> int | None:
    """How many frames will be read, for the progress bar; None if the file does not say."""
    seconds = probe(path).duration_seconds
    if not seconds:
        return None
    seconds = max(0.0, seconds - options.start)
    if options.duration is not None:
        seconds = min(seconds, options.duration)
    return max(1, round(seconds * float(frame_rate)))


def read_driver(path: Path, options: ReenactOptions, frame_rate: Fraction, *, warn: Warn) -> Iterator[Frame]:
    """The driver's frames at a constant rate; `warn` is told of damage that was passed over."""
    return read_frames(_shown(path), start=options.start, duration=options.duration, frame_rate=frame_rate, warn=warn)


def read_driver_motion(path: Path, engine: Engine, options: ReenactOptions, *, progress: Progress) -> Motion:
    """The motion of a folder of the released preprocessing, under `start`, `duration` and `fps`."""
    motion = motion_of_folder(
        path,
        engine.head_model,
        motion_encoder=engine.motion_encoder,
        frame_rate=driver_frame_rate(path, options),
        progress=lambda done: progress("track", done, None),
    )
    return cut_motion(motion, options)


def _shown(path: Path) -> Path:
    """Where the driver's pictures are: in a folder of the released preprocessing, one folder down."""
    return path / PICTURES if is_driver_folder(path) else path


def carries_audio(path: Path) -> bool:
    """Whether the driver is a file with sound."""
    return path.is_file() and not is_motion_file(path) and bool(probe(path).has_audio)


def cut_motion(motion: Motion, options: ReenactOptions) -> Motion:
    """A motion file under `start`, `duration` and `fps`: the nearest frame for every moment, counted from 0 again."""
    rate = motion.frame_rate if options.fps is None else Fraction(options.fps).limit_denominator(1001)
    length = len(motion) / float(motion.frame_rate)
    if options.start >= length:
        raise InputError(f"expected --start below the driver's {length:.2f} s, got {options.start:g}")
    seconds = length - options.start
    if options.duration is not None:
        seconds = min(seconds, options.duration)
    moments = options.start + np.arange(max(1, round(seconds * float(rate)))) / float(rate)
    nearest = np.clip(np.floor(moments * float(motion.frame_rate) + 0.5).astype(int), 0, len(motion) - 1)
    return _take(motion, nearest, rate)


def _take(motion: Motion, frames: np.ndarray, frame_rate: Fraction) -> Motion:
    """The motion's frames of the given numbers, at another rate."""
    length = len(motion)
    per_frame = {}
    for item in dataclasses.fields(motion):
        value = getattr(motion, item.name)
        is_per_frame = isinstance(value, np.ndarray) and item.name not in ("shape", "crop_matrix")
        if is_per_frame and value.shape[:1] == (length,):
            per_frame[item.name] = value[frames]
    per_frame["seconds"] = np.arange(len(frames)) / float(frame_rate)
    return dataclasses.replace(motion, frame_rate=frame_rate, **per_frame)
