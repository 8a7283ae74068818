"""The driver as a file: what kind it is, its frame rate and length, its frames, a cut of its motion."""

import dataclasses
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from flame.errors import InputError
from portrait4d.engine import Engine
from portrait4d.options import IMAGE_SUFFIXES, VIDEO_SUFFIXES, ReenactOptions, is_avatar_file, is_motion_file
from portrait4d.output import Progress
from preprocess.driver_files import PICTURES
from preprocess.driver_motion import is_driver_folder, motion_of_folder
from preprocess.file_check import check_not_input
from preprocess.motion import Motion
from preprocess.video import Frame, Warn, probe, read_frames
from preprocess.video_writer import SUFFIXES

WRITABLE_VIDEO_SUFFIXES = frozenset(SUFFIXES)

_MAX_NAME_BYTES = 250
"""File systems allow 255; a batch adds `.json` for its record."""


def require_file(path: Path, role: str, *, folder_allowed: bool = False) -> Path:
    """The path itself if it exists.

    Raises:
        InputError: It does not, or is a folder where a file is wanted.
    """
    if path.is_file() or (folder_allowed and path.is_dir()):
        return path
    if path.is_dir():
        raise InputError(f"expected a file as {role}, got the folder {path}: name one file")
    raise InputError(f"{role} not found: {path}: check the name and the folder")


def check_device(device: str) -> str:
    """The name itself if the program can use such a device here."""
    if device.split(":")[0] == "mps":
        raise InputError("device 'mps' cannot be used: the rasteriser needs float64, which it lacks; use --device cpu")
    try:
        torch.empty(0, device=device)
    except Exception as error:  # torch raises RuntimeError, AssertionError or NotImplementedError by backend
        raise InputError(
            f"device {device!r} cannot be used here: try --device cpu (portrait4d doctor lists devices)"
        ) from error
    return device


def check_output(path: Path, suffixes: frozenset[str]) -> None:
    """Refuses an output that cannot be written by its suffix or its name, before any work is done."""
    if (length := len(os.fsencode(path.name))) > _MAX_NAME_BYTES:
        raise InputError(
            f"expected an output name of at most {_MAX_NAME_BYTES} bytes, got {length}: shorten {path.name[:40]}..."
        )
    if path.suffix.lower() not in suffixes:
        got = path.suffix or "no suffix"
        raise InputError(
            f"expected an output name ending in {', '.join(sorted(suffixes))}, got {got}: rename {path.name}"
        )
    if path.is_dir():
        raise InputError(f"expected a file name as output, got the folder {path}: add a name like result.mp4")


def check_request(source: Path, driver: Path, output: Path, options: ReenactOptions) -> None:
    """Everything about a reenactment that can be refused before a model is loaded."""
    require_file(source, "source")
    require_file(driver, "driver", folder_allowed=True)
    check_output(output, WRITABLE_VIDEO_SUFFIXES | {".png"})
    if is_motion_file(source):
        raise InputError(f"expected a photo or an avatar file as source, got the motion file {source.name}")
    if source.suffix.lower() in VIDEO_SUFFIXES - IMAGE_SUFFIXES - {".gif", ".apng"}:
        raise InputError(f"expected a photo as source, got the video {source.name}: save one frame of it as a picture")
    check_not_input(output, source, driver, options.flame)
    if driver.is_dir() and output.suffix.lower() in IMAGE_SUFFIXES:
        check_not_input(output, *(path for path in driver.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES))
    if options.placement == "canonical" and not options.crop:
        raise InputError("--paste-back needs the head where it was tracked, got --placement canonical: drop one")
    if is_avatar_file(source) and (options.side_by_side or not options.crop):
        asked = "--side-by-side" if options.side_by_side else "--paste-back"
        raise InputError(f"{asked} needs the picture, got the avatar file {source.name}: give the photo instead")
    if options.side_by_side and is_motion_file(driver):
        raise InputError(f"--side-by-side shows the driver, got the motion file {driver.name}: give the video instead")


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
