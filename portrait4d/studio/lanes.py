"""The threads that all pages share.

Each page has one thing in a lane at a time and lanes keep the order, so that pages take turns. What takes minutes has a
lane of its own, so that a photo never waits for videos.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal

Duration = Literal["seconds", "minutes"]

NUM_THREADS: dict[Duration, int] = {"seconds": 1, "minutes": 2}


class Lane:
    """Runs functions on a few threads, in the order in which they come."""

    def __init__(self, num_threads: int, *, name: str) -> None:
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix=name)
        self._num_threads, self._num_unfinished = num_threads, 0
        self._lock = threading.Lock()

    def submit(self, function: Callable[[], None]) -> tuple[Future[None], bool]:
        """Has a function run; returns its future, and whether it has to wait for others."""
        with self._lock:
            has_to_wait = self._num_unfinished >= self._num_threads
            self._num_unfinished += 1
        future = self._pool.submit(function)
        future.add_done_callback(self._finished)
        return future, has_to_wait

    def _finished(self, future: Future[None]) -> None:
        with self._lock:
            self._num_unfinished -= 1

    def close(self) -> None:
        """Waits for what runs and drops what waits."""
        self._pool.shutdown(wait=True, cancel_futures=True)


class Lanes:
    """A lane for each duration."""

    def __init__(self) -> None:
        self._lanes = {name: Lane(count, name=f"studio-{name}") for name, count in NUM_THREADS.items()}

    def __getitem__(self, duration: Duration) -> Lane:
        return self._lanes[duration]

    def close(self) -> None:
        """Waits for what runs and drops what waits."""
        for lane in self._lanes.values():
            lane.close()
