"""One background thread that encodes frames in order, beside the caller's own work."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

_QUEUE_LENGTH = 4  # frames waiting for the encoder; more would only cost memory


class EncoderThread:
    """Runs `encode` on frames in order in one background thread, behind a short queue."""

    def __init__(self, encode: Callable[[Any], None]) -> None:
        self._encode = encode
        self._frames: queue.Queue[Any] = queue.Queue(_QUEUE_LENGTH)
        self._error: BaseException | None = None
        self._discard = threading.Event()
        self._thread: threading.Thread | None = None

    def put(self, frame: Any) -> None:
        """Hands over a frame; raises what the encoder raised on an earlier one."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="video-encoder", daemon=True)
            self._thread.start()
        if self._error is not None:
            raise self._error
        self._frames.put(frame)

    def stop(self, *, discard: bool) -> None:
        """Waits until all frames are encoded, or drops those that wait."""
        if discard:
            self._discard.set()
        if self._thread is not None:
            self._frames.put(None)
            if self._thread.is_alive():  # false if Ctrl-C came while it was being started
                self._thread.join()
        if self._error is not None and not discard:
            raise self._error

    def _run(self) -> None:
        while (frame := self._frames.get()) is not None:
            if self._error is not None or self._discard.is_set():
                continue  # keep emptying the queue, so that the caller never blocks on it
            try:
                self._encode(frame)
            except BaseException as error:  # raised again in the caller's thread
                self._error = error


def check_frame(image: np.ndarray, shape: tuple[int, int, int], *, index: int) -> None:
    """Refuses a frame of another size or type than the first; raises ValueError with its index."""
    if image.shape != shape or image.dtype != np.uint8:
        raise ValueError(f"expected uint8 {list(shape)}, got {image.dtype} {list(image.shape)} as frame {index}")
