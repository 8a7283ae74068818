"""Reads configs from plain values: those of networks from a `config.json`, those of trainings from a YAML file."""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from flame.errors import InputError, brief, printable

Config = TypeVar("Config")


def read_settings(
    kind: type[Config], values: Mapping[str, Any], *, base: Config | None = None, prefix: str = ""
) -> Config:
    """A config dataclass from plain values, with the configs inside it.

    Args:
        kind: the dataclass.
        values: settings by name; those of a config inside are a mapping themselves, lists stand for tuples.
        base: gives the values of missing keys; None takes the defaults.
        prefix: of the names in messages.

    Raises:
        InputError: an unknown key, with the nearest known one, or a value of the wrong kind or out of range.
    """
    if not isinstance(values, Mapping):
        raise InputError(
            f"expected settings by name under {prefix.rstrip('.') or 'the architecture'}, got {brief(values)}"
        )
    known = [entry.name for entry in fields(kind)]  # pyright: ignore[reportArgumentType]  (a dataclass)
    for key in values:
        if key not in known:
            near = get_close_matches(str(key), known, n=1)
            hint = f"; did you mean {prefix}{near[0]}?" if near else f"; known are {', '.join(known)}"
            raise InputError(f"unknown setting {prefix}{printable(str(key)[:60])}{hint}")
    kinds = get_type_hints(kind)
    defaults = _defaults(kind) if base is None else {entry: getattr(base, entry) for entry in known}
    read = {key: _read(kinds[key], value, f"{prefix}{key}", defaults.get(key)) for key, value in values.items()}
    try:
        return kind(**read) if base is None else replace(base, **read)  # pyright: ignore[reportArgumentType]
    except ValueError as error:
        raise InputError(f"settings {prefix.rstrip('.') or 'of the architecture'} do not work: {error}") from error


def _defaults(kind: type) -> dict[str, Any]:
    """Default values of the fields that have one."""
    values = {entry.name: entry.default for entry in fields(kind)}  # pyright: ignore[reportArgumentType]
    for entry in fields(kind):  # pyright: ignore[reportArgumentType]
        if entry.default_factory is not MISSING:
            values[entry.name] = entry.default_factory()
    return values


def _read(kind: Any, value: Any, name: str, default: Any) -> Any:
    inner = next((part for part in (kind, *get_args(kind)) if is_dataclass(part)), None)
    if inner is not None and value is not None:
        base = default if is_dataclass(default) else None
        return read_settings(inner, value, base=base, prefix=f"{name}.")  # pyright: ignore[reportArgumentType]
    if isinstance(value, list):
        value = tuple(value)
    if not _fits(value, kind):
        raise InputError(f"setting {name} is {brief(value)}: expected {_describe(kind)}")
    return value


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a field's annotated type."""
    if get_origin(kind) is Literal:
        return any(type(value) is type(choice) and value == choice for choice in get_args(kind))
    if get_origin(kind) in (Union, UnionType):
        return any(_fits(value, part) for part in get_args(kind))
    if get_origin(kind) is dict:
        return (
            isinstance(value, dict)
            and all(isinstance(key, str) for key in value)
            and all(_fits(item, get_args(kind)[1]) for item in value.values())
        )
    if get_origin(kind) is tuple:
        parts = get_args(kind)
        if parts[-1] is Ellipsis and isinstance(value, tuple):
            parts = parts[:1] * len(value)
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
    if get_origin(kind) is dict:
        return f"{_describe(get_args(kind)[1])} by name"
    if get_origin(kind) is tuple:
        return f"a list of {', '.join('more' if part is Ellipsis else _describe(part) for part in get_args(kind))}"
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    return names.get(kind, getattr(kind, "__name__", str(kind)))
