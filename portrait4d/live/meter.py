"""Frame rate and latency over the last seconds, as a person feels them."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

WINDOW_SECONDS = 10.0


@dataclass(frozen=True)
class Rates:
    """What was measured.

    Attributes:
        frames_per_second: frames that were shown, over the time between the first and the last of them.
        p50_ms: median time from a frame's arrival (or capture) to its answer, milliseconds; None without frames.
        p95_ms: what 95 of 100 frames stay below.
        num_frames: frames that these are from.
    """

    frames_per_second: float
    p50_ms: float | None
    p95_ms: float | None
    num_frames: int


class FrameMeter:
    """Collects the times of frames; may be used from several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, window_seconds: float = WINDOW_SECONDS) -> None:
        self._clock, self._window = clock, window_seconds
        self._frames: deque[tuple[float, float]] = deque()
        self._lock = threading.Lock()

    def add(self, begun: float) -> None:
        """Counts a frame that is shown now; `begun` is when it came, by the same clock."""
        now = self._clock()
        with self._lock:
            self._frames.append((now, now - begun))
            self._forget(now)

    def rates(self) -> Rates:
        """The rates of the frames shown within the window."""
        now = self._clock()
        with self._lock:
            self._forget(now)
            frames = list(self._frames)
        if not frames:
            return Rates(0.0, None, None, 0)
        times, latencies = np.array(frames).T
        span = float(times[-1] - times[0])
        rate = (len(frames) - 1) / span if span > 0 else 0.0
        p50, p95 = (float(value) for value in 1e3 * np.percentile(latencies, [50, 95]))
        return Rates(rate, p50, p95, len(frames))

    def _forget(self, now: float) -> None:
        while self._frames and now - self._frames[0][0] > self._window:
            self._frames.popleft()
