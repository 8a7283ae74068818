"""Smooths points as they come, without a look ahead: the 1 euro filter (Casiez, Roussel, Vogel, CHI 2012, section 3).

A low-pass filter of first order whose cutoff grows with the speed: steady points stop trembling, fast ones hardly lag.
Clips that are known whole are smoothed by `preprocess.tracking.smooth`, which does not lag at all.
"""

import math

import numpy as np
from numpy.typing import NDArray

SLOWEST_HERTZ = 3.0
"""Cutoff of points that stand still."""

HERTZ_PER_SPEED = 20.0
"""How much the cutoff grows with the speed, in hertz per eye distance per second."""

SPEED_HERTZ = 1.0
"""Cutoff of the speed itself, that of the paper."""


class OneEuro:
    """Smooths one set of points, frame after frame."""

    def __init__(self) -> None:
        self._points: NDArray[np.float64] | None = None
        self._speed = np.zeros(0)
        self._seconds = 0.0

    def __call__(self, points: NDArray, seconds: float, *, unit: float) -> NDArray[np.float32]:
        """Returns the smoothed points of the next frame.

        Args:
            points: `[N, D]`.
            seconds: time of the frame; frames without a later time than the one before replace it.
            unit: length in which speeds are counted, in the points' unit: the distance of the outer eye corners.
        """
        if self._points is None:
            self._points, self._speed = points.astype(np.float64), np.zeros(len(points))
        elif seconds > self._seconds:
            passed = seconds - self._seconds
            step = np.linalg.norm(points - self._points, axis=-1) / unit
            self._speed += _share(SPEED_HERTZ, passed) * (step / passed - self._speed)
            share = _share(SLOWEST_HERTZ + HERTZ_PER_SPEED * self._speed, passed)
            self._points += share[:, None] * (points - self._points)
        self._seconds = max(seconds, self._seconds)
        return self._points.astype(np.float32)

    def reset(self) -> None:
        """Forgets the frames so far."""
        self._points, self._seconds = None, 0.0


def _share(hertz: float | NDArray, passed: float) -> NDArray:
    """Share of a new value after `passed` seconds in a filter of a cutoff (equation 5)."""
    return np.asarray(1 / (1 + 1 / (2 * math.pi * np.asarray(hertz) * passed)))
