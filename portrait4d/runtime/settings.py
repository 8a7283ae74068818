"""Configs of networks from the plain values of a `config.json`."""

from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any, TypeVar

from flame.errors import InputError

Config = TypeVar("Config")


def read_settings(kind: type[Config], values: Mapping[str, Any], *, nested: Mapping[str, type] | None = None) -> Config:
    """A config dataclass from plain values; missing keys take their defaults.

    Args:
        nested: names of the settings that are configs themselves, with their kinds.

    Raises:
        InputError: an unknown key, with the nearest known one, or a value where settings should be.
    """
    read = dict(values)
    for name, inner in (nested or {}).items():
        if name in read:
            _check_keys(inner, read[name], f"{name}.")
            read[name] = inner(**read[name])
    _check_keys(kind, read, "")
    return kind(**read)


def _check_keys(kind: type, values: Any, prefix: str) -> None:
    if not isinstance(values, Mapping):
        raise InputError(f"expected settings by name under {prefix.rstrip('.') or 'the architecture'}, got {values!r}")
    known = [entry.name for entry in fields(kind)]
    for key in values:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f"; did you mean {prefix}{near[0]}?" if near else f"; known are {', '.join(known)}"
            raise InputError(f"unknown setting {prefix}{key}{hint}")
