"""Receives a file of the page into the session's folder, under a name of our own, up to a limit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from flame.errors import InputError
from portrait4d.studio.content import HEAD_BYTES, Kind, suffix_of
from portrait4d.studio.limits import CLIP_BYTES, MEGABYTE, MOTION_BYTES, PHOTO_BYTES

LIMITS: dict[Kind, int] = {"photo": PHOTO_BYTES, "clip": CLIP_BYTES, "motion": MOTION_BYTES}


class TooLargeError(InputError):
    """A file is larger than its limit."""


def check_length(kind: Kind, length: str | None) -> None:
    """Refuses a body by the length that it announces, before any of it is read.

    Raises:
        TooLargeError: it is above the limit.
        InputError: the length is no number.
    """
    if length is None:
        return
    if not (length.isascii() and length.isdecimal()):
        raise InputError("expected a length in bytes")
    if int(length) > LIMITS[kind]:
        raise _too_large(kind)


async def receive(stream: AsyncIterator[bytes], kind: Kind, *, folder: Path, number: int) -> Path:
    """Writes a stream of bytes to a file of the folder and returns it; nothing is left where that fails.

    Args:
        stream: the body.
        kind: what it is meant to be; the first bytes decide whether it is.
        folder: the session's.
        number: gives the file its name.

    Raises:
        TooLargeError: there are more bytes than the limit.
        InputError: it is something else, or empty.
    """
    head, size = b"", 0
    partial = folder / f"{number}.partial"
    try:
        with partial.open("wb") as file:
            async for block in stream:
                size += len(block)
                if size > LIMITS[kind]:
                    raise _too_large(kind)
                if len(head) < HEAD_BYTES:
                    head += block[: HEAD_BYTES - len(head)]
                    if len(head) == HEAD_BYTES:
                        suffix_of(head, kind)
                file.write(block)
        return partial.rename(folder / f"{number}{suffix_of(head, kind)}")
    finally:
        partial.unlink(missing_ok=True)


def _too_large(kind: Kind) -> TooLargeError:
    return TooLargeError(f"expected a {kind} of at most {LIMITS[kind] // MEGABYTE} MB: make it smaller or shorter")
