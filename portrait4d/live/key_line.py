"""Poses by hand at times on a line, and the pose at any moment between them: what plays is what is exported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from flame.errors import InputError
from flame.heads.head_model import HeadModel
from portrait4d.live.by_hand import ByHand, motion_by_hand
from preprocess.tracking.keyframes import values_between
from preprocess.tracking.motion import Motion
from preprocess.tracking.stacked import stack_motions

LONGEST_SECONDS, MOST_KEYS = 60.0, 60
"""Of a line."""

LINE_RATE = Fraction(25)
"""Frames per second of what is written of a line."""


@dataclass(frozen=True)
class KeyLine:
    """K poses at increasing seconds, within a duration. Before the first and after the last, the pose is held.

    Attributes:
        seconds: of the poses.
        poses: what is set at these seconds.
        duration_seconds: of the line.
    """

    seconds: tuple[float, ...]
    poses: tuple[ByHand, ...]
    duration_seconds: float

    def __post_init__(self) -> None:
        if not 0 < self.duration_seconds <= LONGEST_SECONDS:
            raise InputError(
                f"expected a line of more than 0 and at most {LONGEST_SECONDS:g} s, got {self.duration_seconds}"
            )
        if not 1 <= len(self.seconds) == len(self.poses) <= MOST_KEYS:
            raise InputError(f"expected 1 to {MOST_KEYS} keyframes, got {len(self.seconds)}")
        if any(later <= earlier for earlier, later in zip(self.seconds, self.seconds[1:], strict=False)):
            raise InputError("expected keyframes at different seconds, in their order: move one")
        if not 0 <= self.seconds[0] <= self.seconds[-1] <= self.duration_seconds:
            raise InputError(f"expected keyframes from 0 to {self.duration_seconds:g} s, got {self.seconds[-1]:g}")

    @property
    def num_frames(self) -> int:
        """Frames of what is written of it."""
        return max(1, round(self.duration_seconds * float(LINE_RATE)))

    def at(self, moments: Sequence[float] | NDArray) -> list[ByHand]:
        """The poses at moments `[T]`, seconds."""
        rows = self._table
        found = values_between(self.seconds, rows, np.asarray(moments, np.float64))
        found = found.clip(rows.min(0), rows.max(0))  # rounding must not leave the range of a value
        return [self._pose(row) for row in found.tolist()]

    def frames(self) -> list[ByHand]:
        """The pose of each frame of what is written."""
        return self.at(np.arange(self.num_frames) / float(LINE_RATE))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The expressions that any of the poses names."""
        return tuple(dict.fromkeys(name for pose in self.poses for name in pose.expression))

    @cached_property
    def _table(self) -> NDArray[np.float64]:
        """The values `[K, C]` of all poses."""
        return np.array(
            [
                [pose.expression.get(name, 0.0) for name in self.names]
                + [*pose.gaze, pose.yaw_degrees, pose.pitch_degrees, pose.roll_degrees]
                for pose in self.poses
            ]
        )

    def _pose(self, row: Sequence[float]) -> ByHand:
        split = len(self.names)
        x, y, yaw, pitch, roll = row[split:]
        expression = dict(zip(self.names, row, strict=False))
        return ByHand(expression=expression, gaze=(x, y), yaw_degrees=yaw, pitch_degrees=pitch, roll_degrees=roll)


def motion_of_line(line: KeyLine, still: Motion, model: HeadModel) -> Motion:
    """The line as a motion: the head of a photo, T = 1, moved as the line says. Expressions end at 0 and at 1.

    Raises:
        InputError: the motion cannot follow what is set.
    """
    return motion_by_hand(stack_motions([still] * line.num_frames, frame_rate=LINE_RATE), line.frames(), model)
