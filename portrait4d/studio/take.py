"""A recording of what is drawn: the video and the motion that drove it."""

from __future__ import annotations

import time
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
        self._recorder = Recorder(path, frame_rate=RATE, longest_seconds=RECORD_SECONDS)
        self._motions: list[tuple[float, Motion]] = []
        self._lock, self._is_finished = Lock(), False

    @property
    def is_over(self) -> bool:
        """Whether nothing more is taken: the longest duration is reached, or writing failed, as `finish` will say."""
        return self._recorder.is_full or self._recorder.error is not None

    @property
    def num_left_out(self) -> int:
        """Drawn frames that are not in the video because writing was too slow."""
        return self._recorder.num_left_out

    def add(self, answer: Answer) -> None:
        """Adds a drawn frame."""
        with self._lock:
            if self._is_finished or self.is_over:
                return
            begun = answer.request.begun
            self._recorder.add(answer.image, begun)
            if answer.motion is not None:
                self._motions.append((begun, answer.motion))

    def finish(self) -> int:
        """Ends it and returns the frames of the video; there is no file if there are none.

        Raises:
            InputError: writing failed; there is no file.
        """
        self.stop()
        self._recorder.finish()
        return self._recorder.num_frames

    def stop(self) -> None:
        """Takes nothing from now on."""
        with self._lock:
            if not self._is_finished:
                self._is_finished = True
                self._recorder.hold(time.monotonic())

    def drop(self) -> None:
        """Ends it without a file."""
        self.stop()
        self._recorder.drop()

    def motion(self) -> Motion | None:
        """The motion at a constant rate; None if nothing was tracked. Of several crops, the last one's."""
        kept = [item for item in self._motions if np.array_equal(item[1].crop_matrix, self._motions[-1][1].crop_matrix)]
        if not kept:
            return None
        times = np.array([seconds for seconds, _ in kept]) - kept[0][0]
        moments = np.arange(int(times[-1] * float(RATE) + 1e-6) + 1) / float(RATE)
        rows = np.searchsorted(times, moments + 1e-6, side="right") - 1  # as late as they are, up to rounding
        return stack_motions([kept[row][1] for row in rows], frame_rate=RATE)
