"""What takes longer than a frame, such as tracking a clip: one thing at a time a page, with progress and cancel."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from flame.errors import InputError
from portrait4d.runtime.progress import Progress
from portrait4d.studio.lanes import Duration, Lanes
from portrait4d.studio.outbox import Outbox


class Cancelled(Exception):  # noqa: N818  (no error: a person asked for it)
    """The page cancelled the work, or went away."""


@dataclass(frozen=True)
class Job:
    """Something to do.

    Attributes:
        name: what it is, for the page.
        run: gets a progress to call, which raises `Cancelled` where it should stop.
        undo: called in the end if it was cancelled or failed, also before it began.
        duration: what it takes.
    """

    name: str
    run: Callable[[Progress], None]
    undo: Callable[[], None]
    duration: Duration


class Work:
    """The work of one page."""

    def __init__(self, lanes: Lanes, outbox: Outbox) -> None:
        self._lanes, self._outbox = lanes, outbox
        self._jobs: deque[Job] = deque()  # the first is in a lane
        self._future: Future[None] | None = None
        self._is_cancelled = threading.Event()
        self._lock = threading.Lock()
        self._is_ended = False

    @property
    def is_waiting(self) -> bool:
        """Whether something waits for the end of what is being done."""
        return len(self._jobs) > 1

    def start(self, job: Job, *, may_wait: bool = False) -> None:
        """Runs a job on another thread; errors and the end are told to the page.

        Args:
            job: what to do.
            may_wait: whether it may come after what is being done already.

        Raises:
            InputError: the page's last job is not finished, or the page has gone; nothing is undone.
        """
        with self._lock:
            if self._is_ended:
                raise InputError("this page is no longer connected: load it again")
            if self._jobs and not may_wait:
                raise InputError("something is being done already: wait for it, or cancel it")
            self._jobs.append(job)
            if len(self._jobs) == 1:
                self._submit()

    def cancel(self) -> None:
        """Stops what is being done, at its next step if it has begun."""
        with self._lock:
            self._is_cancelled.set()
            if self._jobs and self._future is not None and self._future.cancel():
                self._finish("done", cancelled=True)

    def end(self) -> None:
        """Cancels everything and waits for the end."""
        with self._lock:
            self._is_ended = True
            while self.is_waiting:
                self._jobs.pop().undo()
        self.cancel()
        if self._future is not None and not self._future.cancelled():
            self._future.exception()

    def _submit(self) -> None:
        """Puts the first job into its lane; under the lock."""
        job = self._jobs[0]
        self._is_cancelled.clear()
        self._future, has_to_wait = self._lanes[job.duration].submit(lambda: self._run(job))
        if has_to_wait:
            self._outbox.say("warning", text="other pages are being served first: yours is next in turn")

    def _run(self, job: Job) -> None:
        def progress(stage: str, done: int, total: int | None) -> None:
            if self._is_cancelled.is_set():
                raise Cancelled
            self._outbox.say("progress", work=job.name, stage=stage, done=done, total=total)

        kind, values = "done", {}
        try:
            progress("begin", 0, None)
            job.run(progress)
        except Cancelled:
            values = {"cancelled": True}
        except InputError as error:
            kind, values = "error", {"text": str(error)}
        except Exception as error:  # the page must hear of it; the server goes on for the others
            kind, values = "error", {"text": f"unexpected {type(error).__name__}: {error}"}
        with self._lock:
            self._finish(kind, **values)

    def _finish(self, kind: str, **values: object) -> None:
        """Ends the first job, undone if `values` say why, and begins the next.

        Under the lock, so that the page hears of both in this order and can ask for more.
        """
        job = self._jobs.popleft()
        if values:
            job.undo()
        self._outbox.say(kind, work=job.name, **values)
        if self._jobs:
            self._submit()
