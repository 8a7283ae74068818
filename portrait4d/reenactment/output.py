"""The end of the pipeline: panels side by side, and the encoding of frames while the next ones are rendered."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path

import numpy as np

from flame.errors import InputError
from portrait4d.reenactment.compose import beside, fit_height
from portrait4d.runtime.progress import Progress, ignore_progress
from preprocess.media.result_writer import Sound, open_writer
from preprocess.media.video import Frame


@dataclass(frozen=True)
class WrittenSound:
    """The sound of a written video: whether it has any, and what went wrong with it, one sentence each."""

    has_audio: bool
    warnings: tuple[str, ...] = ()


def panels(
    source: np.ndarray,
    driver_frames: Iterator[Frame],
    driver_view: Callable[[np.ndarray], np.ndarray],
    results: Iterator[np.ndarray],
) -> Iterator[np.ndarray]:
    """Yields frames uint8 `[H, W, 3]` with source, driver and result side by side.

    Args:
        source: uint8 `[H, W, 3]`.
        driver_frames: One per result; the last one is repeated if there are fewer.
        driver_view: Makes the panel of a driver frame, as high as the results.
        results: uint8 `[H, W, 3]` each.

    Raises:
        InputError: the driver gives no frames.
    """
    shown: np.ndarray | None = None
    for result in results:
        frame = next(driver_frames, None)
        if frame is not None:
            shown = driver_view(frame.image)
        if shown is None:
            raise InputError(
                "expected frames in the driver, got none when it was read again: leave the file unchanged during a run"
            )
        yield beside(fit_height(source, result.shape[0]), shown, result)


def scaled(frames: Iterator[np.ndarray], height: int | None) -> Iterator[np.ndarray]:
    """Scales frames uint8 `[H, W, C]` to a height, in pixels; None leaves them as they are."""
    return frames if height is None else (fit_height(frame, height) for frame in frames)


def write_video(
    output: Path,
    frames: Iterator[np.ndarray],
    *,
    num_frames: int,
    frame_rate: Fraction,
    sound: Sound | None = None,
    quality: int | None = None,
    progress: Progress = ignore_progress,
) -> WrittenSound:
    """Encodes frames while the next ones are rendered; the file appears once it is complete.

    Args:
        output: The video, animation or folder of pictures to write.
        frames: uint8 `[H, W, 3]` each, or `[H, W, 4]` with opacity, at least one, all of one size.
        num_frames: Their number, for the progress and the length of the sound.
        frame_rate: Frames per second.
        sound: Of the result, as long as the frames; None for a silent one.
        quality: 1 to 100; None for the default.
        progress: Called after each frame.
    """
    first = next(frames)
    height, width, channels = first.shape
    if sound is not None:
        sound = replace(sound, duration_seconds=num_frames / float(frame_rate))
    with open_writer(
        output,
        height=height,
        width=width,
        frame_rate=frame_rate,
        sound=sound,
        quality=quality,
        has_alpha=channels == 4,
    ) as writer:
        for done, frame in enumerate(chain([first], frames), start=1):
            writer.write(frame)
            progress("render", done, num_frames)
    return WrittenSound(writer.has_audio, writer.warnings)
