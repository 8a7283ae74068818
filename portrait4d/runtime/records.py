"""Records of finished results, from which a later run knows what to skip: a key of inputs and options for each."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from portrait4d.runtime.paths import require_file
from preprocess.files.atomic import atomic_path


def digest(facts: Any) -> str:
    """A key of JSON-ready facts that differs whenever they differ."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def file_facts(path: Path) -> list[Any]:
    """Facts that change whenever a file, or a file anywhere in a folder, changes.

    Raises:
        InputError: there is nothing of that name.
    """
    require_file(path, "input", folder_allowed=True)
    files = sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]
    facts = []
    for file in files:
        status = file.stat()
        facts.append([str(file.relative_to(path)) if file != path else file.name, status.st_size, status.st_mtime_ns])
    return [str(path.resolve()), facts]


def read_record(path: Path) -> dict[str, Any]:
    """The record; empty if it is missing or cannot be read."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def write_record(path: Path, key: str, report: Mapping[str, Any]) -> None:
    """Writes a record; called once its result is complete."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps({"key": key, **report}, indent=1), encoding="utf-8")
