"""Two threads that draw the newest request: one tracks, one draws. Requests are dropped, never queued.

While a frame is drawn the next one is tracked and retargeted. The tracking thread hands its frame over when the drawing
thread is free, and only then takes another request, the newest at that moment, so that at most one frame waits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from flame.errors import InputError
from portrait4d.engines.base import Drive
from portrait4d.live.by_hand import ByHand
from portrait4d.live.meter import FrameMeter
from portrait4d.live.puppet import Puppet
from preprocess.tracking.motion import Motion

Item = TypeVar("Item")


@dataclass(frozen=True)
class Request:
    """One frame that is wanted.

    Attributes:
        stamp: what the answer carries, so that the asker knows it again.
        picture: gives a picture of the driver, uint8 `[H, W, 3]` RGB, to track; called by the worker.
        seconds: when the picture was taken, from any start.
        motion: in place of a picture, tracked before, T = 1. With neither, the avatar's own face.
        neutral: the clip that `motion` is from.
        by_hand: added to it.
        begun: when the request came, `time.monotonic()`.
    """

    stamp: float
    picture: Callable[[], NDArray[np.uint8]] | None = None
    seconds: float = 0.0
    motion: Motion | None = None
    neutral: Motion | None = None
    by_hand: ByHand = field(default_factory=ByHand)
    begun: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Answer:
    """A drawn frame.

    Attributes:
        request: what asked for it.
        image: uint8 `[S, S, 3]` RGB.
        motion: what drove it; None for the avatar's own face, or where the driver was not seen.
        is_lost: whether a picture was given in which the driver was not seen; the last pose is held.
        is_turned: whether the driver is turned so far that the head stops at the limit.
    """

    request: Request
    image: NDArray[np.uint8]
    motion: Motion | None
    is_lost: bool
    is_turned: bool = False


@dataclass(frozen=True)
class _Tracked:
    """A request that is ready to be drawn; the rest as in `Answer`."""

    request: Request
    drive: Drive
    motion: Motion | None
    is_lost: bool
    is_turned: bool


class Newest(Generic[Item]):
    """A place for one item; a newer one replaces it.

    Attributes:
        num_dropped: items that were replaced before they were taken.
    """

    def __init__(self) -> None:
        self.num_dropped = 0
        self._item: Item | None = None
        self._is_closed = False
        self._changed = threading.Condition()

    def put(self, item: Item) -> None:
        """Leaves an item."""
        with self._changed:
            self.num_dropped += self._item is not None
            self._item = item
            self._changed.notify_all()

    def take(self) -> Item | None:
        """Waits for an item and takes it; None once the place is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._item is not None or self._is_closed)
            item, self._item = self._item, None
            self._changed.notify_all()
            return None if self._is_closed else item

    def wait_taken(self) -> None:
        """Waits until nothing lies here, or the place is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._item is None or self._is_closed)

    def close(self) -> None:
        """Ends all waiting."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()


class LiveWorker:
    """Draws a puppet on two threads, from `with` on or until `close`.

    Attributes:
        puppet: what is drawn.
        meter: measures from the arrival of a request to its answer.
    """

    def __init__(
        self,
        puppet: Puppet,
        *,
        answer: Callable[[Answer], None],
        taken: Callable[[Request], None] = lambda request: None,
        failed: Callable[[Request, Exception], None],
    ) -> None:
        """Starts the threads.

        Args:
            puppet: what is drawn.
            answer: called with each drawn frame, on the drawing thread.
            taken: called once a request is tracked, on the tracking thread: the next one can be on its way while this
                one waits for the drawing thread. One request per call keeps both threads busy and lets none wait long.
            failed: called when a request cannot be drawn, or when `answer` fails; the next one is drawn all the same.
        """
        self.puppet, self.meter = puppet, FrameMeter()
        self._answer, self._taken, self._failed = answer, taken, failed
        self._wanted: Newest[Request] = Newest()
        self._tracked: Newest[_Tracked] = Newest()
        self._last: Motion | None = None
        self._is_neutral_wanted, self._is_driver_new = threading.Event(), threading.Event()
        self._threads = [
            threading.Thread(target=loop, daemon=True, name=f"live-{name}")
            for name, loop in (("track", self._track_all), ("draw", self._draw_all))
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> LiveWorker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def num_dropped(self) -> int:
        """Requests that a newer one replaced."""
        return self._wanted.num_dropped

    def submit(self, request: Request) -> None:
        """Asks for a frame; it replaces one that has not been begun."""
        self._wanted.put(request)

    def hold_neutral(self) -> None:
        """Has the driver's last pictures count as neutral, from the next request on."""
        self._is_neutral_wanted.set()

    def forget_driver(self) -> None:
        """Has the next picture be of someone new."""
        self._is_driver_new.set()

    def close(self) -> None:
        """Ends both threads, after the frames that they are at."""
        self._wanted.close()
        self._tracked.close()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    def _track_all(self) -> None:
        while (request := self._wanted.take()) is not None:
            try:
                tracked = self._track(request)
            except Exception as error:  # one bad picture must not end the session; the asker is told
                self._fail(request, error)
                self._taken(request)
                continue
            self._taken(request)
            self._tracked.wait_taken()
            self._tracked.put(tracked)
            self._tracked.wait_taken()

    def _track(self, request: Request) -> _Tracked:
        motion, is_lost = self._motion(request)
        drive, is_turned = self.puppet.drive_and_turn(motion, request.by_hand, neutral=request.neutral)
        return _Tracked(request, drive, motion, is_lost, is_turned)

    def _motion(self, request: Request) -> tuple[Motion | None, bool]:
        """The motion that a request is drawn with, and whether its picture does not show the driver."""
        if self._is_driver_new.is_set():
            self._is_driver_new.clear()
            self._last = None
            self.puppet.new_driver()
        if self._is_neutral_wanted.is_set():
            self._is_neutral_wanted.clear()
            self.puppet.hold_neutral()
        if request.picture is None:
            return request.motion, False
        with torch.inference_mode():
            motion = self.puppet.track(request.picture(), request.seconds)
        if motion is None:
            return self._last, True
        self._last = motion
        return motion, False

    def _draw_all(self) -> None:
        while (tracked := self._tracked.take()) is not None:
            try:
                image = self.puppet.draw(tracked.drive)
                self._answer(Answer(tracked.request, image, tracked.motion, tracked.is_lost, tracked.is_turned))
            except Exception as error:  # as above; also where the answer cannot be shown or kept
                self._fail(tracked.request, error)
                continue
            self.meter.add(tracked.request.begun)

    def _fail(self, request: Request, error: Exception) -> None:
        known = (
            error if isinstance(error, InputError) else InputError(f"a frame failed: {type(error).__name__} {error}")
        )
        self._failed(request, known)
