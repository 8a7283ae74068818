"""Decodes video files with PyAV into upright RGB frames with real time stamps, one at a time."""

import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np
from av.stream import Disposition
from av.video.reformatter import ColorRange, Colorspace

from flame.errors import InputError
from preprocess.files.file_check import check_file
from preprocess.media.damage import Damage, Warn
from preprocess.media.image import MAX_PIXELS, MIN_SIDE
from preprocess.media.time_stamps import SCANNED_PACKETS, TimeStamps, clip_origin, exact, is_wild, told_duration
from preprocess.media.timing import Shown, nominal_rate

logger = logging.getLogger(__name__)

_HAS_METADATA_ERRORS = int(av.__version__.split(".")[0]) < 19
_THREADS = min(4, os.cpu_count() or 1)
_BT709, _BT470BG, _SMPTE170M, _BT2020 = 1, 5, 6, 9  # colour matrices as numbered in ITU-T H.273
_FULL_RANGE = 2
_SWS_BT2020 = 9  # older PyAV has no name for it
# Bilinear chroma with accurate rounding and full chroma: 0.0 levels of bias. The default is 1 ms faster at
# 512 x 512 but 1.2 levels too dark; accurate rounding alone is 2 levels too dark.
_EXACT = 0x2 | 0x40000 | 0x2000
_SQUARE_ENOUGH = Fraction(1, 100)  # encoders that rounded a size write pixel aspects like 406:407


@dataclass(frozen=True)
class VideoTrack:
    """What a video file says about its pictures.

    Attributes:
        height: of the frames as shown, after rotation and with square pixels.
        width: likewise.
        frame_rate: the rate the clip is meant to have; see `nominal_rate`.
        is_variable_rate: whether the time stamps are far from evenly spaced.
        duration_seconds: from the first frame to the end of the last that can be read.
        num_frames: frames found, or the duration times the rate in long clips.
        has_audio: whether there is a sound track.
    """

    height: int
    width: int
    frame_rate: Fraction
    is_variable_rate: bool
    duration_seconds: float
    num_frames: int
    has_audio: bool


@contextmanager
def open_media(path: Path) -> Iterator[av.container.InputContainer]:
    """Opens a video or sound file for reading.

    Raises:
        InputError: the file is missing, empty, or not a media file.
    """
    check_file(path, "a video")
    message = f"{path}: not a video, or its index is missing (recording or download cut off); use a whole file"
    try:
        container = open_container(path)
    except (av.FFmpegError, ValueError) as error:
        raise InputError(message) from error
    with container:
        if not (container.streams.video or container.streams.audio):
            raise InputError(message)
        yield container


def open_container(path: Path) -> av.container.InputContainer:
    """Opens a file with any version of PyAV; titles that are not UTF-8 do not stop it.

    Up to PyAV 18 this needs an option; 19 keeps such bytes as surrogates by itself and has no option for it.
    """
    if _HAS_METADATA_ERRORS:
        return av.open(str(path), metadata_errors="replace")
    return av.open(str(path))


def video_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    """Returns the first video stream that is not a cover picture, set up for decoding.

    Raises:
        InputError: there is none, or this FFmpeg cannot decode it.
    """
    streams = [stream for stream in container.streams.video if not is_cover(stream)]
    if not streams:
        raise InputError(f"{path}: the file has no video track; expected a video with pictures")
    stream = streams[0]
    if stream.codec_context is None:
        raise InputError(f"{path}: the video track has an unknown codec; convert it to H.264")
    stream.thread_type = "AUTO"
    stream.codec_context.thread_count = _THREADS
    return stream


def read_track(path: Path) -> VideoTrack:
    """Describes a video file: decodes its first frame, and reads time stamps without decoding, in one opening."""
    with open_media(path) as container:
        stream = video_stream(container, path)
        average, base = exact(stream.average_rate), exact(stream.base_rate)
        has_audio = bool(container.streams.audio)
        packets, stamps = container.demux(stream), TimeStamps(container, stream)
        first = next(_decode(stamps.pass_on(packets), stream, Damage()), None)
        if first is None:
            raise InputError(f"{path}: the video track holds no frame that can be decoded; use another file")
        height, width = _find_geometry(first, stream).shown_size
        if height * width > MAX_PIXELS or min(height, width) < MIN_SIDE:
            raise InputError(
                f"{path}: frames of {width} x {height} pixels; expected at least {MIN_SIDE} on each side "
                f"and at most {MAX_PIXELS // 10**6} megapixels"
            )
        stamps.read_on(packets)
    seconds, duration, num_frames = stamps.seconds, stamps.duration_seconds, stamps.count
    rate, is_variable = nominal_rate(seconds, average=average, base=base)
    if duration is None:  # the last frame does not say how long it stays
        duration = (float(seconds[-1] - seconds[0]) if len(seconds) else 0.0) + float(1 / rate)
    num_frames = num_frames if num_frames < SCANNED_PACKETS else round(duration * rate)
    return VideoTrack(height, width, rate, is_variable, duration, max(1, num_frames), has_audio)


def show_video(path: Path, start: float, frame_rate: Fraction, *, warn: Warn = logger.warning) -> Iterator[Shown]:
    """Yields the frames of a video file in the order of time, beginning with the one shown at `start` or earlier.

    Damaged parts are skipped; `warn` is called about them when the reading ends. A frame without a usable time stamp
    is placed one nominal frame after the previous one.
    """
    with open_media(path) as container:
        stream = video_stream(container, path)
        origin = clip_origin(stream)
        tick_of_stream = exact(stream.time_base)
        if start > 0 and tick_of_stream is not None:
            container.seek(math.floor((origin + Fraction(start)) / tick_of_stream), stream=stream)
        told = told_duration(container, stream)
        geometry: _Geometry | None = None
        previous: float | None = None
        damage = Damage()
        is_whole = False
        try:
            for frame in _decode(container.demux(stream), stream, damage):
                geometry = geometry or _find_geometry(frame, stream)
                tick = exact(frame.time_base) or tick_of_stream or Fraction(1, 1000)
                seconds = None if frame.pts is None else float(frame.pts * tick - origin)
                if seconds is None or (
                    previous is not None and (seconds <= previous or is_wild(seconds, previous, told))
                ):
                    seconds = 0.0 if previous is None else previous + float(1 / frame_rate)
                previous = seconds
                ticks = getattr(frame, "duration", None)
                yield Shown(seconds, float(ticks * tick) if ticks else None, partial(_to_rgb, frame, geometry))
            is_whole = True
        finally:  # also where the caller stops early: what it has read may be damaged
            end = None if previous is None or not is_whole else previous + float(1 / frame_rate)
            if damage.num_places:
                warn(damage.describe(path, end, told))


def is_cover(stream: av.VideoStream) -> bool:
    """Returns whether the stream is a cover picture, as sound files carry them."""
    return bool(stream.disposition & Disposition.attached_pic)


def _decode(packets: Iterator[av.Packet], stream: av.VideoStream, damage: Damage) -> Iterator[av.VideoFrame]:
    """Decodes packet by packet, so that a damaged one does not end the clip; `damage` counts those."""
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError:
            packet = None
            damage.num_places += 1
        try:
            frames = stream.codec_context.decode(None) if packet is None else packet.decode()
        except av.FFmpegError as error:
            if not isinstance(error, EOFError):
                damage.num_places += 1
            frames = []
        for frame in frames:
            damage.num_places += bool(frame.is_corrupt)
            yield frame
        if packet is None:
            break


@dataclass(frozen=True)
class _Geometry:
    """How decoded frames become upright ones with square pixels.

    Attributes:
        height: after stretching to square pixels, before turning.
        width: likewise.
        matrix: (a, b, c, d) by which a stored pixel (x, y) is shown at (a x + c y, b x + d y), up to a shift.
    """

    height: int
    width: int
    matrix: tuple[int, int, int, int]

    @property
    def is_transposed(self) -> bool:
        return abs(self.matrix[0]) < abs(self.matrix[1])

    @property
    def shown_size(self) -> tuple[int, int]:
        return (self.width, self.height) if self.is_transposed else (self.height, self.width)


def _find_geometry(frame: av.VideoFrame, stream: av.VideoStream) -> _Geometry:
    """Reads the geometry from one frame.

    Looking at a frame's side data makes PyAV tie it into a reference cycle, which delays freeing its memory. Therefore
    this is done once a clip, and not for frames without rotation (a matrix that only mirrors top to bottom is lost).
    """
    height, width, matrix = frame.height, frame.width, (1, 0, 0, 1)
    aspect = exact(stream.sample_aspect_ratio) or exact(stream.codec_context.sample_aspect_ratio) or Fraction(1)
    if abs(aspect - 1) >= _SQUARE_ENOUGH and Fraction(1, 8) < aspect < 8:  # one side is stretched, none is shrunk
        height, width = (height, round(width * aspect)) if aspect > 1 else (round(height / aspect), width)
    data = frame.side_data.get("DISPLAYMATRIX") if frame.rotation else None
    if data is not None:
        entries = np.frombuffer(bytes(data), np.int32)
        matrix = (int(entries[0]), int(entries[1]), int(entries[3]), int(entries[4]))
    return _Geometry(height, width, matrix)


def _to_rgb(frame: av.VideoFrame, geometry: _Geometry) -> np.ndarray:
    """Converts a decoded frame to upright `uint8 [H, W, 3]`."""
    matrix = frame.colorspace
    if matrix == _BT2020:
        colorspace = _SWS_BT2020
    elif matrix == _BT709 or (matrix not in (_BT470BG, _SMPTE170M) and frame.height >= 720):
        colorspace = Colorspace.ITU709  # what players assume for untagged high definition
    else:
        colorspace = Colorspace.ITU601
    is_full = frame.color_range == _FULL_RANGE or frame.format.name.startswith("yuvj")
    image = frame.reformat(
        format="rgb24",
        src_colorspace=colorspace,
        dst_colorspace=colorspace,
        src_color_range=ColorRange.JPEG if is_full else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        interpolation=_EXACT,
    ).to_ndarray()
    if image.shape[:2] != (geometry.height, geometry.width):
        image = cv2.resize(image, (geometry.width, geometry.height), interpolation=cv2.INTER_CUBIC)
    a, b, c, d = geometry.matrix  # quarter turns and mirror images; other angles are rounded to quarter turns
    if geometry.is_transposed:
        image, a, d = image.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])
