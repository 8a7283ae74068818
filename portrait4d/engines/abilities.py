"""The options that only some engines have: which engine has which, and the check of a user's choice."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Protocol

from flame.errors import InputError

_UNASKED: dict[str, object] = {"placement": "tracked"}
"""Values that ask nothing of an engine; for options that are not listed, the value is None."""


@dataclass(frozen=True)
class Abilities:
    """Which of the options that only some engines have an engine has.

    A field is empty if the engine has the option; else it says why not, as the end of a sentence that begins with
    "which".
    """

    placement: str = ""
    jitter: str = ""
    flame: str = ""
    mesh_resolution: str = ""
    expressions: str = ""
    """Named expressions and the gaze, as `Motion.edit` sets them."""


class Able(Protocol):
    """What has abilities: an engine, or an `EngineStatus` before its weights are loaded."""

    @property
    def name(self) -> str:
        """Name of the engine."""
        ...

    @property
    def abilities(self) -> Abilities:
        """The options that it has."""
        ...


def check_choices(engine: Able, choices: Mapping[str, object]) -> None:
    """Refuses an option that an engine does not have.

    Args:
        engine: The engine, or its status.
        choices: Values of options by name; names that are no field of `Abilities` are ignored.

    Raises:
        InputError: The engine does not have one of the options; the message names both.
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


def check_follows(engine: Able, names: Collection[str]) -> None:
    """Refuses edits that an engine cannot show.

    Args:
        engine: the engine, or its status.
        names: what is edited besides the pose of the head, as the user named it.

    Raises:
        InputError: the engine follows the pose alone.
    """
    if names and engine.abilities.expressions:
        reason = engine.abilities.expressions
        raise InputError(
            f"expected only the head's yaw, pitch and roll for engine {engine.name}, which {reason}, got "
            f"{', '.join(names)}: drop them, or take engine lift"
        )
