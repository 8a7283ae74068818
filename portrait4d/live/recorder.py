"""Writes frames that come when they come as a video of a constant rate: one that is late stays longer."""

from __future__ import annotations

from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from preprocess.media.video_writer import VideoWriter

RATE = Fraction(25)


class Recorder:
    """Context manager; the file appears when the block ends without an exception, if there was a frame.

    Attributes:
        num_frames: frames of the video so far.
        is_full: whether the longest duration is reached; later frames are left out.
    """

    def __init__(self, path: str | Path, *, frame_rate: Fraction = RATE, longest_seconds: float | None = None) -> None:
        self.num_frames, self.is_full = 0, False
        self._path, self._rate, self._longest = Path(path), frame_rate, longest_seconds
        self._stack = ExitStack()
        self._writer: VideoWriter | None = None
        self._last: NDArray[np.uint8] | None = None
        self._begun = 0.0

    def __enter__(self) -> Recorder:
        return self

    def add(self, image: NDArray[np.uint8], seconds: float) -> None:
        """Adds a frame uint8 `[H, W, 3]` that is shown from `seconds` on, by any clock."""
        if self._writer is None or self._last is None:
            height, width = image.shape[:2]
            writer = VideoWriter(self._path, height=height, width=width, frame_rate=self._rate)
            self._writer = self._stack.enter_context(writer)
            self._begun = seconds
        else:
            self._repeat_last(self._writer, self._last, seconds - self._begun)
        self._last = image

    def hold(self, seconds: float) -> None:
        """Shows the last frame until `seconds`, by the clock of `add`."""
        if self._writer is not None and self._last is not None:
            self._repeat_last(self._writer, self._last, seconds - self._begun)

    def _repeat_last(self, writer: VideoWriter, last: NDArray[np.uint8], until: float) -> None:
        """Writes the last frame up to a time since the first."""
        if self._longest is not None and until >= self._longest:
            until, self.is_full = self._longest, True
        while self.num_frames < round(until * float(self._rate)):
            writer.write(last)
            self.num_frames += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._writer is not None and self._last is not None and not self.is_full:
            self._writer.write(self._last)
            self.num_frames += 1
        self._stack.__exit__(kind, error, trace)
