"""Configurations in YAML files, which hold differences from the defaults only, and overrides on the command line."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from flame.errors import InputError, brief, printable
from portrait4d.runtime.settings import read_settings
from portrait4d.train.recipes import find_config

Config = TypeVar("Config")


def read_config_file(kind: type[Config], path: str | Path | None, overrides: Sequence[str] = ()) -> Config:
    """A configuration: the defaults, changed by a file, changed by overrides.

    Args:
        kind: the dataclass of the whole configuration.
        path: a YAML file, or the name of one in `configs/`: `genhead/toy64`; None for the defaults.
        overrides: `loss.gamma=2`: dotted names, values in YAML.

    Raises:
        InputError: the file or an override cannot be read, or names something that does not exist.
    """
    values = {} if path is None else _read_yaml(find_config(path))
    for override in overrides:
        name, found, text = override.partition("=")
        if not found or not name:
            raise InputError(f"expected an override like loss.gamma=2, got {printable(override[:80])!r}")
        _put(values, name.split("."), _parse(text, f"override {printable(name[:60])}"), override)
    where = "the overrides" if path is None else str(path)
    try:
        return read_settings(kind, values)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def plain_values(config: Any) -> dict[str, Any]:
    """A configuration as JSON values: tuples as lists."""
    return json.loads(json.dumps(asdict(config)))


def differing_lines(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> list[str]:
    """One line `name: old -> new` for each setting in which two configurations differ."""
    lines = []
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            lines += differing_lines(old, new, f"{prefix}{name}.")
        elif old != new:
            lines.append(f"{prefix}{name}: {brief(old)} -> {brief(new)}")
    return lines


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"expected a configuration in YAML at {path} ({error}): check the path") from error
    values = _parse(text, str(path))
    if values is None:  # a file of comments: the defaults
        return {}
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected settings by name, got {brief(values)}")
    return values


def _parse(text: str, where: str) -> Any:
    import yaml  # here, so that programs without configuration files do without it

    class Loader(yaml.SafeLoader):
        """Takes 1e-8 for a number, which YAML 1.1 does not."""

    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), [*"-+0123456789"]
    )
    try:
        return yaml.load(text, Loader)  # a SafeLoader
    except yaml.YAMLError as error:
        raise InputError(f"{where}: not YAML ({' '.join(str(error).split())[:160]})") from error


def _put(values: dict[str, Any], names: list[str], value: Any, override: str) -> None:
    for name in names[:-1]:
        values = values.setdefault(name, {})
        if not isinstance(values, dict):
            raise InputError(f"override {printable(override[:80])}: {name} is one value, not a group of settings")
    values[names[-1]] = value
