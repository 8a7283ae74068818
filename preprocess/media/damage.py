"""What was found broken in a clip that is used all the same, and how it is told."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Warn = Callable[[str], None]
"""Told in one sentence what is wrong with a file that is used all the same."""

CUT_OFF_SECONDS = 0.2
"""A damaged clip whose pictures end this much before the length it states is told to be cut off."""


@dataclass
class Damage:
    """Counts places that could not be decoded, or only with faults."""

    num_places: int = 0

    def describe(self, path: Path, end: float | None, told: float | None) -> str:
        """Returns one sentence for the user.

        Args:
            path: the clip.
            end: where its pictures ended, seconds; None if they were not read to their end.
            told: where they should end by the clip's own word, seconds; None if it does not say.
        """
        places = "1 damaged place" if self.num_places == 1 else f"{self.num_places} damaged places"
        if end is not None and told is not None and end < told - CUT_OFF_SECONDS:
            return f"{path.name} is cut off or damaged: pictures for {end:.2f} of its {told:.2f} s, {places}"
        return f"{path.name} has {places} in its pictures: the rest is used, expect faults there"
