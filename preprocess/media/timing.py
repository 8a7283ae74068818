"""Works on the time stamps of a clip: finds its nominal frame rate and resamples it to a constant one."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

DEFAULT_FRAME_RATE = Fraction(25)
"""Frame rate of folders of pictures, single pictures, and clips that do not state theirs."""
MAX_VARIABLE_RATE = 60
"""A clip with a changing frame rate is never resampled to more frames per second than this."""

_COMMON_RATES = tuple(
    Fraction(rate) for rate in (5, 10, 12, 15, 20, 24, 25, 30, 48, 50, 60, 90, 100, 120, 240)
) + tuple(Fraction(rate * 1000, 1001) for rate in (24, 30, 48, 60, 120))


@dataclass(frozen=True)
class Shown:
    """One picture of a clip and when it is shown.

    Attributes:
        seconds: when it appears, counted from the start of the clip.
        duration_seconds: how long it is meant to stay, or None where the file does not state it.
        load: returns the picture, `uint8 [H, W, 3]`; frames that are skipped are never converted.
    """

    seconds: float
    duration_seconds: float | None
    load: Callable[[], np.ndarray]


@dataclass(frozen=True)
class Frame:
    """One frame read from a clip: picture `uint8 [H, W, 3]`, seconds from the start of the cut, running index.

    A picture that is held over several frames is the same array in all of them: copy before drawing on it.
    """

    image: np.ndarray
    seconds: float
    index: int


def nominal_rate(
    seconds: np.ndarray, *, average: Fraction | None = None, base: Fraction | None = None
) -> tuple[Fraction, bool]:
    """Returns the frame rate a clip is meant to have, and whether its rate changes.

    Args:
        seconds: time stamps of (the first) frames, sorted.
        average: number of frames divided by duration, as the container states it.
        base: the lowest rate on whose grid all time stamps lie, as the container states it.

    Returns:
        For a constant rate (jitter below half a frame is allowed) that rate; otherwise the rate of the grid, or of the
        densest tenth of the frames, at most `MAX_VARIABLE_RATE`.
    """
    gaps = np.diff(seconds)
    gaps = gaps[gaps > 1e-6]
    if len(gaps) == 0:
        return average or base or DEFAULT_FRAME_RATE, False
    median = float(np.median(gaps))
    if not (np.any(gaps > 1.5 * median) or np.any(gaps < 0.5 * median)):
        measured = 1 / float(gaps.mean())
        if average and abs(float(average) / measured - 1) < 0.01:
            return Fraction(average), False
        return snap_rate(measured), False
    if base and 1 <= base <= MAX_VARIABLE_RATE:
        return Fraction(base), True
    densest = 1 / float(np.quantile(gaps, 0.1))
    return snap_rate(min(densest, MAX_VARIABLE_RATE)), True


def snap_rate(rate: float) -> Fraction:
    """Returns the common frame rate within 0.15 % of `rate` that is nearest to it, or a simple fraction."""
    nearest = min(_COMMON_RATES, key=lambda common: abs(float(common) - rate))
    if abs(float(nearest) / rate - 1) < 0.0015:
        return nearest
    return Fraction(rate).limit_denominator(1000)


def cut(clip: Iterator[Shown], *, start: float, duration: float | None) -> Iterator[Frame]:
    """Yields the frames whose time stamps lie in [start, start + duration), with their own time stamps."""
    index = 0
    for shown in clip:
        seconds = shown.seconds - start
        if seconds < -1e-6:
            continue
        if duration is not None and seconds >= duration - 1e-6:
            return
        yield Frame(shown.load(), max(seconds, 0.0), index)
        index += 1


def resample(clip: Iterator[Shown], rate: Fraction, *, start: float, duration: float | None) -> Iterator[Frame]:
    """Yields frame `i` at exactly `i / rate`, from `start` to the end of the last frame or of the cut.

    A frame goes to the output frame nearest to its time stamp. Of several the nearest wins; where there is none, the
    last one is held. The number of frames is the length of the cut times the rate, rounded.
    """
    limit = math.inf if duration is None else max(1, round(duration * rate))
    index, end = 0, 0
    nearest: Shown | None = None  # of the frames that fall on output frame `index`
    latest: Shown | None = None
    nearest_distance = math.inf
    load = _remember_last()
    for shown in clip:
        position = (shown.seconds - start) * float(rate)
        slot = math.floor(position + 0.5)
        while index < min(slot, limit):
            yield Frame(load(nearest or latest or shown), float(index / rate), index)  # a late first frame counts back
            index, nearest = index + 1, None
        if index >= limit:
            return
        if slot == index and (nearest is None or abs(position - index) < nearest_distance):
            nearest, nearest_distance = shown, abs(position - index)
        latest = shown
        end = round((Fraction(shown.seconds) + Fraction(shown.duration_seconds or 1 / rate) - Fraction(start)) * rate)
        end = max(end, 1 if nearest is shown else 0)
    while latest is not None and index < min(end, limit):
        yield Frame(load(nearest or latest), float(index / rate), index)
        index, nearest = index + 1, None


def _remember_last() -> Callable[[Shown], np.ndarray]:
    """Returns a loader that converts a held frame once."""
    last: list[tuple[Shown, np.ndarray]] = []

    def load(shown: Shown) -> np.ndarray:
        if not last or last[0][0] is not shown:
            last[:] = [(shown, shown.load())]
        return last[0][1]

    return load
