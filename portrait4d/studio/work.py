"""What takes longer than a frame, such as tracking a clip: one thing at a time a page, with progress and cancel."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from flame.errors import InputError
from portrait4d.runtime.progress import Progress
from portrait4d.studio.outbox import Outbox


class Cancelled(Exception):  # noqa: N818  (no error: a person asked for it)
    """The page cancelled the work, or went away."""


class Work:
    """The work of one page."""

    def __init__(self, pool: ThreadPoolExecutor, outbox: Outbox) -> None:
        self._pool, self._outbox = pool, outbox
        self._is_cancelled = threading.Event()
        self._lock = threading.Lock()
        self._running: Future[None] | None = None
        self._is_busy = False

    def start(self, name: str, function: Callable[[Progress], None]) -> None:
        """Runs a function on another thread; errors and the end are told to the page.

        Args:
            name: what is done, for the page.
            function: gets a progress to call, which raises `Cancelled` where it should stop.

        Raises:
            InputError: the page's last work is not finished.
        """
        with self._lock:
            if self._is_busy:
                raise InputError("something is being done already: wait for it, or cancel it")
            self._is_busy = True
            self._is_cancelled.clear()
            self._running = self._pool.submit(self._run, name, function)

    def cancel(self) -> None:
        """Stops what is being done at its next step."""
        self._is_cancelled.set()

    def end(self) -> None:
        """Cancels and waits for the end."""
        self.cancel()
        running = self._running
        if running is not None and not running.cancel():
            running.exception()

    def _run(self, name: str, function: Callable[[Progress], None]) -> None:
        def progress(stage: str, done: int, total: int | None) -> None:
            if self._is_cancelled.is_set():
                raise Cancelled
            self._outbox.say("progress", work=name, stage=stage, done=done, total=total)

        kind, values = "done", {}
        try:
            progress("begin", 0, None)
            function(progress)
        except Cancelled:
            values = {"cancelled": True}
        except InputError as error:
            kind, values = "error", {"text": str(error)}
        except Exception as error:  # the page must hear of it; the server goes on for the others
            kind, values = "error", {"text": f"unexpected {type(error).__name__}: {error}"}
        with self._lock:
            self._is_busy = False  # before the page hears of it and asks for more
        self._outbox.say(kind, work=name, **values)
