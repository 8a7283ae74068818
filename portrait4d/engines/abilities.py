"""Which options each engine knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from flame.errors import InputError

if TYPE_CHECKING:
    pass


_OF_TRAINED_ENGINES: dict[str, tuple[object, str]] = {
    "placement": ("tracked", "draws the head where it was"),
    "jitter": (None, "takes no samples along rays"),
    "flame": (None, "has a head model of its own"),
    "mesh_resolution": (None, "has a mesh of its own"),
}
"""Options that `lift` does not know: the only value that it takes, and why."""


def check_choices(engine: str, choices: Mapping[str, object]) -> None:
    """Refuses what an engine does not know.

    Args:
        engine: its name, not "auto".
        choices: values of options by name; others than `_OF_TRAINED_ENGINES` are not looked at.

    Raises:
        InputError: the engine does not know one of them.
    """
    if engine != "lift":
        return
    for name, (only, reason) in _OF_TRAINED_ENGINES.items():
        value = choices.get(name, only)
        if value != only:
            name = name.replace("_", "-")
            wanted = f"no {name}" if only is None else f"{name} {only!r}"
            raise InputError(
                f"expected {wanted} for engine lift, which {reason}, got {value!r}: drop --{name}, or name an engine "
                "portrait4d..."
            )
