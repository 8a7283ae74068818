"""What waits to be sent to one page: messages in order, and the newest drawn frame. Filled from any thread."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

NUM_MESSAGES = 200
"""Messages that wait for a page that does not read; older ones are dropped."""


class Outbox:
    """Belongs to one socket and the event loop that it is made on."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._texts: deque[dict[str, Any]] = deque(maxlen=NUM_MESSAGES)
        self._frame: Callable[[], bytes] | None = None
        self._filled = asyncio.Event()
        self._is_closed = False

    def say(self, kind: str, **values: Any) -> None:
        """Has a message sent; of progress, only the newest waits."""
        self._run(lambda: self._add({"kind": kind, **values}))

    def show(self, frame: Callable[[], bytes]) -> None:
        """Has a drawn frame sent; it replaces one that still waits.

        Args:
            frame: gives it; called on another thread when its turn comes, so that whoever draws need not encode.
        """

        def put() -> None:
            self._frame = frame
            self._filled.set()

        self._run(put)

    def close(self) -> None:
        """Ends `send_all`."""
        self._is_closed = True
        self._run(self._filled.set)

    async def send_all(
        self, send_text: Callable[[str], Awaitable[None]], send_bytes: Callable[[bytes], Awaitable[None]]
    ) -> None:
        """Sends what comes, until it is closed."""
        while not self._is_closed:
            await self._filled.wait()
            self._filled.clear()
            while self._texts or self._frame is not None:
                if self._texts:
                    await send_text(json.dumps(self._texts.popleft()))  # ASCII: a page may name half a character
                frame, self._frame = self._frame, None
                if frame is not None:
                    await send_bytes(await asyncio.to_thread(frame))

    def _add(self, message: dict[str, Any]) -> None:
        if message["kind"] == "progress" and self._texts and self._texts[-1]["kind"] == "progress":
            self._texts.pop()
        self._texts.append(message)
        self._filled.set()

    def _run(self, function: Callable[[], None]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function)
