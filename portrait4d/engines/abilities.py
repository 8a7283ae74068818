"""Which of the options that not every engine knows an engine has, and the one place where they are checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Protocol

from flame.errors import InputError

_UNASKED: dict[str, object] = {"placement": "tracked"}
"""Values that ask nothing of an engine; of the options that are not here it is None."""


@dataclass(frozen=True)
class Abilities:
    """The options that not every engine knows, by name.

    Empty where the engine knows it, else the reason why it does not, as the end of a sentence that begins with "which".
    """

    placement: str = ""
    jitter: str = ""
    flame: str = ""
    mesh_resolution: str = ""


class Able(Protocol):
    """What has abilities: an engine, or an `EngineStatus` before its weights are loaded."""

    @property
    def name(self) -> str:
        """Of the engine."""
        ...

    @property
    def abilities(self) -> Abilities:
        """The options it knows."""
        ...


def check_choices(engine: Able, choices: Mapping[str, object]) -> None:
    """Refuses an option that an engine does not know.

    Args:
        engine: Or its status.
        choices: Values of options by name; others than the fields of `Abilities` are not looked at.

    Raises:
        InputError: The engine does not know one of them; both are named.
    """
    for field in fields(engine.abilities):
        reason, unasked = getattr(engine.abilities, field.name), _UNASKED.get(field.name)
        value = choices.get(field.name, unasked)
        if reason and value != unasked:
            option = field.name.replace("_", "-")
            wanted = f"no {option}" if unasked is None else f"{option} {unasked!r}"
            raise InputError(
                f"expected {wanted} for engine {engine.name}, which {reason}, got {value!r}: drop --{option}, or name "
                "an engine portrait4d..."
            )
