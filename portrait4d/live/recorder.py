"""Writes frames that come when they come as a video of a constant rate: one that is late stays longer.

A thread of its own writes, so that whoever draws never waits, however long a frame has stayed.
"""

from __future__ import annotations

import threading
from fractions import Fraction
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from flame.errors import InputError
from preprocess.media.video_writer import VideoWriter

RATE = Fraction(25)

NUM_WAITING = 50
"""Frames that may wait to be written; while so many do, the last one stays in the place of new ones."""


class _Dropped(Exception):  # noqa: N818  (no error: it keeps the writer from leaving a file)
    pass


class Recorder:
    """Context manager; the file appears when the block ends without an exception, if there was a frame.

    Attributes:
        num_frames: frames of the video so far.
        num_left_out: frames that are not in the video because writing was too slow; the one before stays longer.
        is_full: whether the longest duration is reached; later frames are left out.
        error: why writing failed, if it did; later frames are left out, and the end of the block raises it.
    """

    def __init__(self, path: str | Path, *, frame_rate: Fraction = RATE, longest_seconds: float | None = None) -> None:
        self.num_frames = self.num_left_out = 0
        self.is_full = False
        self.error: InputError | None = None
        self._path, self._rate, self._longest = Path(path), frame_rate, longest_seconds
        self._waiting: SimpleQueue[tuple[NDArray[np.uint8], int] | None] = SimpleQueue()
        self._is_dropped = threading.Event()
        self._thread: threading.Thread | None = None
        self._last: NDArray[np.uint8] | None = None
        self._begun = 0.0

    def __enter__(self) -> Recorder:
        return self

    def add(self, image: NDArray[np.uint8], seconds: float) -> None:
        """Adds a frame uint8 `[H, W, 3]` that is shown from `seconds` on, by any clock; it must not change later."""
        if self.error is not None:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_all, args=image.shape[:2], daemon=True, name="recorder")
            self._thread.start()
            self._begun = seconds
        elif self._waiting.qsize() >= NUM_WAITING:
            self.num_left_out += 1
            return
        self.hold(seconds)
        self._last = image

    def hold(self, seconds: float) -> None:
        """Shows the last frame until `seconds`, by the clock of `add`."""
        until = seconds - self._begun
        if self._longest is not None and until >= self._longest:
            until, self.is_full = self._longest, True
        self._show_last(round(until * float(self._rate)) - self.num_frames)

    def _show_last(self, count: int) -> None:
        if self._last is not None and count > 0:
            self._waiting.put((self._last, count))
            self.num_frames += count

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish() if kind is None else self.drop()

    def finish(self) -> None:
        """Ends the file after all frames.

        Raises:
            InputError: writing failed; there is no file.
        """
        if not self.is_full:
            self._show_last(1)
        try:
            self._end()
        except BaseException:  # a second Ctrl-C
            self.drop()
            raise
        if self.error is not None:
            raise self.error

    def drop(self) -> None:
        """Ends it without a file."""
        self._is_dropped.set()
        self._end()

    def _end(self) -> None:
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join()

    def _write_all(self, height: int, width: int) -> None:
        """Writes what comes until None comes; runs on the recorder's thread."""
        try:
            with VideoWriter(self._path, height=height, width=width, frame_rate=self._rate, threaded=False) as writer:
                for image, count in iter(self._waiting.get, None):
                    for _ in range(count):
                        self._check()
                        writer.write(image)
                self._check()
        except _Dropped:
            pass
        except Exception as error:  # whoever draws goes on; the end of the block raises it
            self.error = error if isinstance(error, InputError) else InputError(f"the recording failed: {error}")

    def _check(self) -> None:
        if self._is_dropped.is_set():
            raise _Dropped
