"""Reads clips as streams of frames: video files, animated pictures, folders of pictures, single pictures.

Memory does not grow with the length of a clip: frames are decoded one at a time. What PyAV decodes is imported where it
is used: networks that train or draw on a machine without PyAV import this file, too.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np

from flame.errors import InputError
from preprocess.media.damage import Warn
from preprocess.media.image import read_image
from preprocess.media.stills import is_animation, is_picture, list_pictures, show_animation, show_folder, show_picture
from preprocess.media.timing import DEFAULT_FRAME_RATE, Frame, cut, nominal_rate, resample

__all__ = ["Frame", "VideoInfo", "Warn", "probe", "read_frames"]

logger = logging.getLogger(__name__)


ClipKind = Literal["video", "animation", "folder", "picture"]
"""A video file; a file of several pictures in time; a folder of pictures; a single picture."""


@dataclass(frozen=True)
class VideoInfo:
    """What is known about a clip before it is decoded.

    Attributes:
        path: the file or folder.
        kind: how it is read.
        height: of the frames as read: upright, with square pixels.
        width: likewise.
        frame_rate: the rate the clip is meant to have; for a changing rate, that of its densest part.
        duration_seconds: from the first frame to the end of the last.
        num_frames_estimate: stored frames; exact for short clips.
        has_audio: whether there is a sound track.
        is_variable_rate: whether the time stamps are far from evenly spaced.
    """

    path: Path
    kind: ClipKind
    height: int
    width: int
    frame_rate: Fraction
    duration_seconds: float
    num_frames_estimate: int
    has_audio: bool
    is_variable_rate: bool


def probe(path: str | Path) -> VideoInfo:
    """Describes a clip without decoding all of it (animated pictures are decoded, frame by frame).

    Raises:
        InputError: the clip is missing, damaged from the start, or holds no pictures.
    """
    path = Path(path)
    if path.is_dir() or (path.is_file() and path.stat().st_size and is_picture(path)):
        return _probe_stills(path)
    from preprocess.media.decode import read_track

    track = read_track(path)
    return VideoInfo(
        path=path,
        kind="video",
        height=track.height,
        width=track.width,
        frame_rate=track.frame_rate,
        duration_seconds=track.duration_seconds,
        num_frames_estimate=track.num_frames,
        has_audio=track.has_audio,
        is_variable_rate=track.is_variable_rate,
    )


def read_frames(
    clip: str | Path | VideoInfo,
    *,
    start: float = 0.0,
    duration: float | None = None,
    frame_rate: Fraction | float | int | None = None,
    warn: Warn = logger.warning,
) -> Iterator[Frame]:
    """Reads the frames of a clip one by one.

    Args:
        clip: video file, animated picture, folder of pictures (in natural order) or single picture; or what `probe`
            found of it, which saves looking again.
        start: where the cut begins, in seconds from the first frame; the frames' seconds count from here.
        duration: length of the cut in seconds; None reads to the end.
        frame_rate: None gives the stored frames with their own time stamps. A rate gives frame `i` at
            `i / frame_rate`, chosen by time stamp, so that the result lasts as long as the clip. For a folder of
            pictures it is the rate of the pictures (default 25).
        warn: called once, when the reading ends, about damage that was skipped; by default it logs a warning.

    Raises:
        InputError: at once for what `probe` finds and for a cut outside the clip; while reading, for a damaged picture
            of a folder or animation.
    """
    rate = None if frame_rate is None else Fraction(frame_rate).limit_denominator(100_000)
    if rate is not None and rate <= 0:
        raise InputError(f"frame rate {frame_rate}: expected more than 0 frames per second")
    if start < 0 or (duration is not None and duration <= 0):
        raise InputError(f"start {start}, duration {duration}: expected a start of 0 or more and a duration above 0")
    info = clip if isinstance(clip, VideoInfo) else probe(clip)
    path = info.path
    length = info.num_frames_estimate / float(rate) if rate and info.kind == "folder" else info.duration_seconds
    if start >= length:
        raise InputError(f"{path}: the start, {start:g} s, is after the end of the clip ({length:.2f} s)")
    return _read(info, start, duration, rate, warn=warn)


def _read(
    info: VideoInfo, start: float, duration: float | None, rate: Fraction | None, *, warn: Warn
) -> Iterator[Frame]:
    path = info.path
    match info.kind:
        case "folder":
            clip = show_folder(path, rate or DEFAULT_FRAME_RATE)
        case "video":
            from preprocess.media.decode import show_video

            clip = show_video(path, start, info.frame_rate, warn=warn)
        case "animation":
            clip = show_animation(path)
        case "picture":
            clip = show_picture(path, rate or DEFAULT_FRAME_RATE)
        case _:
            raise ValueError(f"expected a kind of clip, got {info.kind!r}")
    if rate is None:
        return cut(clip, start=start, duration=duration)
    return resample(clip, rate, start=start, duration=duration)


def _probe_stills(path: Path) -> VideoInfo:
    kind: ClipKind
    rate, is_variable = DEFAULT_FRAME_RATE, False
    if path.is_dir():
        kind = "folder"
        pictures = list_pictures(path)
        height, width = read_image(pictures[0]).shape[:2]
        num_frames, duration = len(pictures), len(pictures) / float(rate)
    elif is_animation(path):
        kind, seconds = "animation", []
        height, width, duration = 0, 0, 0.0
        for shown in show_animation(path):
            height, width = shown.load().shape[:2]
            seconds.append(shown.seconds)
            duration = shown.seconds + (shown.duration_seconds or 0.0)
        num_frames = len(seconds)
        rate, is_variable = nominal_rate(np.array([*seconds, duration]))
    else:
        kind = "picture"
        height, width = read_image(path).shape[:2]
        num_frames, duration = 1, 1 / float(rate)
    return VideoInfo(path, kind, height, width, rate, duration, num_frames, False, is_variable)
