"""Counts what is damaged in a clip that is used all the same, and describes it to the user."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Warn = Callable[[str], None]
"""Called with one sentence that says what is wrong with a file that is used all the same."""

CUT_OFF_SECONDS = 0.2
"""A damaged clip whose pictures end this much before its stated length is reported as cut off."""


@dataclass
class Damage:
    """Counts the places that could not be decoded, or only with faults."""

    num_places: int = 0

    def describe(self, path: Path, end: float | None, told: float | None) -> str:
        """Returns one sentence about the damage for the user.

        Args:
            path: the clip.
            end: time at which its pictures ended, in seconds; None if they were not read to their end.
            told: time at which they should end as the clip states it, in seconds; None if it does not.
        """
        places = "1 damaged place" if self.num_places == 1 else f"{self.num_places} damaged places"
        if end is not None and told is not None and end < told - CUT_OFF_SECONDS:
            return f"{path.name} is cut off or damaged: pictures for {end:.2f} of its {told:.2f} s, {places}"
        return f"{path.name} has {places} in its pictures: the rest is used, expect faults there"
