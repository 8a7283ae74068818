"""Opens the writer that the name of a result asks for: a video, an animation, or a folder of numbered pictures."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from preprocess.media.encodings import DEFAULT_QUALITY
from preprocess.media.frame_folder import FrameFolderWriter
from preprocess.media.video_writer import VideoWriter
from preprocess.media.webp_writer import WebpWriter

ResultWriter = VideoWriter | WebpWriter | FrameFolderWriter
"""Each has `write`, `num_frames`, `has_audio` and `warnings`."""


@dataclass(frozen=True)
class Sound:
    """The sound of a result: a file that has it, the second that falls on the first frame, and its length."""

    path: Path
    start_seconds: float = 0.0
    duration_seconds: float | None = None


def open_writer(
    path: Path,
    *,
    height: int,
    width: int,
    frame_rate: Fraction,
    sound: Sound | None = None,
    quality: int | None = None,
    has_alpha: bool = False,
) -> ResultWriter:
    """Prepares the writer; `with` opens the file.

    Args:
        path: the suffix chooses; a name without one is a folder.
        height: of the frames.
        width: of the frames.
        frame_rate: frames per second.
        sound: added where the file can hold it.
        quality: 1 to 100; None for the default, which is also that of files without a choice.
        has_alpha: whether frames hold opacity.

    Raises:
        InputError: the name asks for what cannot be written, or the folder holds other files.
    """
    quality = DEFAULT_QUALITY if quality is None else quality
    if not path.suffix:
        return FrameFolderWriter(path)
    if path.suffix.lower() == ".webp":
        return WebpWriter(path, height=height, width=width, frame_rate=frame_rate, quality=quality, has_alpha=has_alpha)
    return VideoWriter(
        path,
        height=height,
        width=width,
        frame_rate=frame_rate,
        audio_from=None if sound is None else sound.path,
        audio_start=0.0 if sound is None else sound.start_seconds,
        audio_duration=None if sound is None else sound.duration_seconds,
        quality=quality,
        has_alpha=has_alpha,
    )
