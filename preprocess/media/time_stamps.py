"""Reads what a video file says about time: where its pictures begin, how long they last, the stamps of its packets."""

import math
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from numbers import Rational

import av
import numpy as np

SCANNED_PACKETS = 1000
"""Enough to tell the frame rate; longer clips are not read twice."""

_WILD_SECONDS = 10.0


def exact(ratio: Rational | None) -> Fraction | None:
    """Returns a rate, tick or aspect of PyAV as a fraction, or None where the file does not state it.

    PyAV 19 has its own type, which lacks `abs` and `limit_denominator` and is 0 where older versions give None.
    """
    return Fraction(ratio) if ratio else None


def clip_origin(stream: av.VideoStream) -> Fraction:
    """Returns the container's time in seconds at which the pictures begin; sound is placed relative to it."""
    tick = exact(stream.time_base)
    if stream.start_time is None or tick is None:
        return Fraction(0)
    return stream.start_time * tick


def told_duration(container: av.container.InputContainer, stream: av.VideoStream) -> float | None:
    """Returns the seconds that the file states for its pictures, or None."""
    tick = exact(stream.time_base)
    if stream.duration and tick:
        return float(stream.duration * tick)
    if container.duration:
        return (
            container.duration / av.time_base - float(clip_origin(stream)) + (container.start_time or 0) / av.time_base
        )
    return None


def is_wild(seconds: float, previous: float, told: float | None) -> bool:
    """Returns whether a time stamp jumps far beyond the end of the clip: damage, not a frame to hold for hours."""
    return told is not None and seconds > told + _WILD_SECONDS and seconds > previous + _WILD_SECONDS


class TimeStamps:
    """Notes the time stamps of packets as they are read.

    Up to `SCANNED_PACKETS` of them where the file states a duration.

    Attributes:
        count: frames found.
    """

    def __init__(self, container: av.container.InputContainer, stream: av.VideoStream) -> None:
        self._tick = float(exact(stream.time_base) or Fraction(1, 1000))
        self._told = told_duration(container, stream)
        self._stamps: list[int] = []
        self._last, self._length = -math.inf, 0
        self.count = 0

    @property
    def seconds(self) -> np.ndarray:
        """The sorted time stamps of the first frames."""
        return np.sort(np.array(self._stamps, dtype=np.float64)) * self._tick

    @property
    def duration_seconds(self) -> float | None:
        """The duration of the clip, if it can be told."""
        if self._has_enough:
            return self._told
        if self.count == 0 or self._length == 0:
            return None
        return (self._last + self._length) * self._tick - float(self.seconds[0])

    def pass_on(self, packets: Iterator[av.Packet]) -> Iterator[av.Packet]:
        """Yields the packets, and notes those that were taken."""
        for packet in packets:
            self._note(packet)
            yield packet

    def read_on(self, packets: Iterator[av.Packet]) -> None:
        """Notes the packets that are left, as far as they can be read and are needed."""
        with suppress(av.FFmpegError):
            while not self._has_enough and (packet := next(packets, None)) is not None:
                self._note(packet)

    @property
    def _has_enough(self) -> bool:
        return self._told is not None and self.count >= SCANNED_PACKETS

    def _note(self, packet: av.Packet) -> None:
        ticks = packet.pts if packet.pts is not None else packet.dts
        if self._has_enough or not packet.size or getattr(packet, "is_discard", False) or ticks is None:
            return
        if self._stamps:
            first = self._stamps[0]
            if is_wild((ticks - first) * self._tick, (self._last - first) * self._tick, self._told):
                return
        self.count += 1
        if ticks > self._last:  # packets come in the order of decoding
            self._last, self._length = ticks, packet.duration or 0
        if len(self._stamps) < SCANNED_PACKETS:
            self._stamps.append(ticks)
