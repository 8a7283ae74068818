"""Reads configs of networks from the plain values of a `config.json`."""

from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from flame.errors import InputError, brief, printable

Config = TypeVar("Config")


def read_settings(kind: type[Config], values: Mapping[str, Any], *, nested: Mapping[str, type] | None = None) -> Config:
    """A config dataclass from plain values; missing keys take their defaults.

    Args:
        kind: the dataclass.
        values: settings by name.
        nested: names of the settings that are configs themselves, with their dataclasses.

    Raises:
        InputError: an unknown key, with the nearest known one, or a value where settings should be.
    """
    read = dict(values)
    for name, inner in (nested or {}).items():
        if name in read:
            _check_keys(inner, read[name], f"{name}.")
            read[name] = _make(inner, read[name], f"{name}.")
    _check_keys(kind, read, "")
    return _make(kind, read, "")


def _make(kind: type[Config], values: Mapping[str, Any], prefix: str) -> Config:
    try:
        return kind(**values)
    except ValueError as error:
        raise InputError(f"settings {prefix.rstrip('.') or 'of the architecture'} do not work: {error}") from error


def _check_keys(kind: type, values: Any, prefix: str) -> None:
    if not isinstance(values, Mapping):
        raise InputError(
            f"expected settings by name under {prefix.rstrip('.') or 'the architecture'}, got {brief(values)}"
        )
    known = [entry.name for entry in fields(kind)]
    for key in values:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f"; did you mean {prefix}{near[0]}?" if near else f"; known are {', '.join(known)}"
            raise InputError(f"unknown setting {prefix}{printable(str(key)[:60])}{hint}")
    expected = get_type_hints(kind)
    for key, value in values.items():
        if not _fits(value, expected[key]):
            raise InputError(f"setting {prefix}{key} is {brief(value)}: expected {_describe(expected[key])}")


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a field's annotated type."""
    if get_origin(kind) is Literal:
        return any(type(value) is type(choice) and value == choice for choice in get_args(kind))
    if get_origin(kind) in (Union, UnionType):
        return any(_fits(value, part) for part in get_args(kind))
    if get_origin(kind) is tuple:
        parts = get_args(kind)
        return isinstance(value, tuple) and len(value) == len(parts) and all(map(_fits, value, parts))
    if kind is bool:
        return isinstance(value, int) and value in (0, 1)  # some authors' files have 0 and 1
    if isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if kind is float else kind)


def _describe(kind: Any) -> str:
    """A field's type in words."""
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, get_args(kind)))
    if get_origin(kind) in (Union, UnionType):
        return " or ".join("null" if part is NoneType else _describe(part) for part in get_args(kind))
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    return names.get(kind, getattr(kind, "__name__", str(kind)))
