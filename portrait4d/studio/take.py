"""A recording of what is drawn: the video and the motion that drove it."""

from __future__ import annotations

import time
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from threading import Lock

import numpy as np

from portrait4d.live.recorder import Recorder
from portrait4d.live.worker import Answer
from portrait4d.studio.limits import RECORD_SECONDS
from preprocess.tracking.motion import Motion
from preprocess.tracking.stacked import stack_motions

RATE = Fraction(25)


class Take:
    """Collects drawn frames from `add` until `finish`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stack = ExitStack()
        self._recorder = self._stack.enter_context(Recorder(path, frame_rate=RATE, longest_seconds=RECORD_SECONDS))
        self._motions: list[tuple[float, Motion]] = []
        self._lock, self._is_finished = Lock(), False

    @property
    def is_full(self) -> bool:
        """Whether the longest duration is reached."""
        return self._recorder.is_full

    def add(self, answer: Answer) -> None:
        """Adds a drawn frame."""
        with self._lock:
            if self._is_finished or self._recorder.is_full:
                return
            begun = answer.request.begun
            self._recorder.add(answer.image, begun)
            if answer.motion is not None:
                self._motions.append((begun, answer.motion))

    def finish(self) -> int:
        """Ends it now and returns the frames of the video; there is no file if there are none."""
        with self._lock:
            self._is_finished = True
            self._recorder.hold(time.monotonic())
            self._stack.close()
            return self._recorder.num_frames

    def motion(self) -> Motion | None:
        """The motion at a constant rate; None if nothing was tracked. Of several crops, the last one's."""
        kept = [item for item in self._motions if np.array_equal(item[1].crop_matrix, self._motions[-1][1].crop_matrix)]
        if not kept:
            return None
        times = np.array([seconds for seconds, _ in kept]) - kept[0][0]
        moments = np.arange(int(times[-1] * float(RATE) + 1e-6) + 1) / float(RATE)
        rows = np.searchsorted(times, moments + 1e-6, side="right") - 1  # as late as they are, up to rounding
        return stack_motions([kept[row][1] for row in rows], frame_rate=RATE)
