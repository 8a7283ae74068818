"""Plans which files become which shards, before anything is computed; the plan is kept in the output folder.

A file's key is the start of the SHA-256 of its content. Every machine finds the same keys by itself, so that parts of a
dataset (`Part`) need no coordination and their shards can lie in one folder.
"""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flame.errors import InputError
from preprocess.dataset.building.build_options import Part
from preprocess.files.atomic import atomic_path
from preprocess.files.digest import file_digest

KEY_LENGTH = 16
ITEMS, OUTCOMES = "items", "outcomes"
"""Folders in the output that hold what is finished of items and of shards."""
PLAN_VERSION = 1


@dataclass(frozen=True)
class Item:
    """One input file: its key, and its path relative to the input folder with `/` between parts."""

    key: str
    name: str


@dataclass(frozen=True)
class Plan:
    """The shards of a part.

    Attributes:
        shards: items by shard name, in the order of the records.
        duplicates: name of a file, and name of the file with the same content that is used instead.
    """

    shards: dict[str, tuple[Item, ...]]
    duplicates: tuple[tuple[str, str], ...]

    @property
    def items(self) -> list[Item]:
        """All items, shard by shard."""
        return [item for items in self.shards.values() for item in items]


def make_plan(
    folder: Path, output: Path, *, part: Part, items_per_shard: int, settings: dict[str, Any],
    progress: Callable[[int, int], None] | None = None,
) -> Plan:  # fmt: skip
    """Returns the stored plan, with shards appended for files that are new.

    Args:
        folder: with the inputs, searched through all levels.
        output: where the plan is stored.
        part: the part of the files that is planned.
        items_per_shard: number of files for each new shard.
        settings: everything else that shapes the records.
        progress: called with (files hashed, total).

    Raises:
        InputError: the folder is missing or holds no file, or the output was begun with other settings or another
            number of parts, so that its shards would not belong together.
    """
    if items_per_shard < 1:
        raise InputError(f"expected at least 1 item in a shard, got {items_per_shard}")
    files = list_files(folder, output)
    path = output / f"plan-{part.name}.json"
    settings = json.loads(json.dumps(settings))
    _refuse_other_parts(output, part, settings)
    stored = _read_plan(path)
    if stored is not None and stored["settings"] != settings:
        stored = None  # not begun yet: for example, the first try named a detector that is not installed
    shards = {} if stored is None else stored["shards"]
    planned = {key for items in shards.values() for key, _ in items}
    new: dict[str, str] = {}
    duplicates: list[tuple[str, str]] = []
    first_names: dict[str, str] = {}
    for name, key in _hash_files(folder, files, output / f"hashes-{part.name}.json", progress):
        if not part.holds(key):
            continue
        if key in first_names:
            duplicates.append((name, first_names[key]))
            continue
        first_names[key] = name
        if key not in planned:
            new[key] = name
    keys = sorted(new)
    for start in range(0, len(keys), items_per_shard):
        some = keys[start : start + items_per_shard]
        shards[f"{_shard_prefix(part)}{len(shards):06d}"] = [[key, new[key]] for key in some]
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps({"version": PLAN_VERSION, "settings": settings, "shards": shards}, indent=1))
    plan = {name: tuple(Item(key, source) for key, source in items) for name, items in shards.items()}
    return Plan(plan, tuple(duplicates))


def list_files(folder: Path, output: Path) -> list[Path]:
    """Returns all files below a folder in sorted order, without hidden ones and without the output."""
    if not folder.is_dir():
        raise InputError(f"expected a folder of inputs, {folder} is none: check the name")
    excluded = output.resolve()
    if excluded in (folder.resolve(), *folder.resolve().parents):
        raise InputError(f"expected an output that does not hold the inputs of {folder}, got {output}: choose another")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and excluded not in path.resolve().parents)
    shown = [path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    if not shown:
        raise InputError(f"expected files in {folder}, it holds none: check the name")
    return shown


def _refuse_other_parts(output: Path, part: Part, settings: dict[str, Any]) -> None:
    """Raises InputError if this or another part was begun in a way that does not fit."""
    for path in sorted(output.glob("plan-*.json")):
        match = re.fullmatch(r"plan-(\d+)-of-(\d+)\.json", path.name)
        stored = _read_plan(path)
        if match is None or stored is None:
            continue
        other, before = Part(int(match[1]), int(match[2])), stored["settings"]
        changed = sorted(key for key in before.keys() | settings.keys() if before.get(key) != settings.get(key))
        if (other.count == part.count and not changed) or not _is_begun(output, other):
            continue
        if other.count != part.count:
            raise InputError(
                f"{output} was begun with --shard {other.index}/{other.count}, got {part.index}/{part.count}: keep the "
                "number of parts, or choose another output"
            )
        raise InputError(
            f"{output} was begun with other settings ({', '.join(changed)}): repeat them, or choose another output"
        )


def _is_begun(output: Path, part: Part) -> bool:
    """Returns whether any item of a part is finished."""
    keys = (path.name.partition(".")[0] for path in (output / ITEMS).glob("*.json"))
    is_any_item = any(part.holds(key) for key in keys if re.fullmatch(rf"[0-9a-f]{{{KEY_LENGTH}}}", key))
    return is_any_item or any(True for _ in (output / OUTCOMES).glob(f"{_shard_prefix(part)}*.json"))


def _shard_prefix(part: Part) -> str:
    return f"shard-{part.name}-"


def _read_plan(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        plan = json.loads(path.read_text())
        if plan["version"] != PLAN_VERSION:
            raise InputError(f"{path}: expected version {PLAN_VERSION} of a plan, got {plan['version']}: start anew")
        return plan
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged: choose another output, or delete it to start anew") from error


def _hash_files(
    folder: Path, files: list[Path], cache_path: Path, progress: Callable[[int, int], None] | None
) -> list[tuple[str, str]]:
    """Returns name and key of each file; reads a file again if its size or time of change differs."""
    try:
        cache = json.loads(cache_path.read_text()) if cache_path.exists() else {}
    except ValueError:
        cache = {}  # the cache only saves time
    known: dict[str, list[Any]] = {}
    for index, path in enumerate(files):
        name = path.relative_to(folder).as_posix()
        status = path.stat()
        mark = [str(folder.resolve()), status.st_size, status.st_mtime_ns]
        kept = cache.get(name)
        known[name] = kept if kept and kept[:3] == mark else [*mark, _hash(path)]
        if progress is not None:
            progress(index + 1, len(files))
    if known != cache:
        with atomic_path(cache_path) as temporary:
            temporary.write_text(json.dumps(known))
    return [(name, values[3]) for name, values in known.items()]


def _hash(path: Path) -> str:
    """Returns the key of a file; one that cannot be read gets a key from its name, and is rejected in its turn."""
    try:
        return file_digest(path)[:KEY_LENGTH]
    except OSError:
        return hashlib.sha256(path.as_posix().encode()).hexdigest()[:KEY_LENGTH]
