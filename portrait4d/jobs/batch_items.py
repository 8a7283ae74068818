"""The items of a batch: every source with every driver, from folders or patterns, or the rows of a manifest."""

import csv
import glob
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flame.errors import InputError
from portrait4d.runtime.paths import BLENDSHAPE_SUFFIXES, IMAGE_SUFFIXES, MOTION_SUFFIXES, VIDEO_SUFFIXES, require_file
from preprocess.tracking.released_motion import is_driver_folder


@dataclass(frozen=True)
class BatchItem:
    """One source that is to be animated by one driver, and the file of the result."""

    source: Path
    driver: Path
    output: Path


def find_files(pattern: str | Path, suffixes: frozenset[str], role: str) -> list[Path]:
    """Finds the files that a path, folder or glob pattern means, sorted; hidden files are left out.

    Args:
        pattern: Path of a file or folder, or a glob pattern.
        suffixes: Lower-case suffixes of the files that are taken from a folder.
        role: What the files are, for the message.

    Raises:
        InputError: There are none.
    """
    path = Path(pattern)
    found = [item for item in _meant(pattern) if not path.is_dir() or item.suffix.lower() in suffixes]
    found = sorted(item for item in found if item.is_file() and not item.name.startswith("."))
    if not found:
        raise InputError(
            f"no {role} found at {pattern}: expected a file, a folder or a quoted pattern like 'photos/*.jpg'"
        )
    return found


def _meant(pattern: str | Path) -> list[Path]:
    """The content of a folder, or the paths that match a name or pattern."""
    path = Path(pattern)
    if path.is_dir():
        return list(path.iterdir())
    return [path] if path.exists() else [Path(name) for name in glob.glob(str(pattern), recursive=True)]


def find_drivers(pattern: str | Path) -> list[Path]:
    """Finds drivers: videos, motion files and folders of the released preprocessing, or, if there are none, pictures.

    A folder of the released preprocessing is a driver itself; of other folders the content is taken.

    Raises:
        InputError: there are none.
    """
    if is_driver_folder(Path(pattern)):
        return [Path(pattern)]
    folders = [item for item in _meant(pattern) if is_driver_folder(item)]
    suffixes = VIDEO_SUFFIXES | MOTION_SUFFIXES | (frozenset() if Path(pattern).is_dir() else BLENDSHAPE_SUFFIXES)
    try:
        return sorted([*folders, *find_files(pattern, frozenset(suffixes), "drivers")])
    except InputError:
        return sorted(folders) or find_files(pattern, IMAGE_SUFFIXES, "drivers")


def cross_items(sources: str | Path, drivers: str | Path, output: Path, suffix: str = ".mp4") -> list[BatchItem]:
    """Makes an item of every source with every driver; its output is named after both.

    Args:
        sources: As `find_files` takes it.
        drivers: As `find_drivers` takes it.
        output: Folder of the results.
        suffix: Of the results; empty for folders of pictures.

    Raises:
        InputError: there are no sources or no drivers.
    """
    source_paths = find_files(sources, IMAGE_SUFFIXES, "sources")
    driver_paths = find_drivers(drivers)
    source_names, driver_names = distinct_names(source_paths), distinct_names(driver_paths)
    return [
        BatchItem(source, driver, output / f"{source_names[source]}__{driver_names[driver]}{suffix}")
        for source in source_paths
        for driver in driver_paths
    ]


def distinct_names(paths: Sequence[Path]) -> dict[Path, str]:
    """The stem of each path; equal ones get the suffix or a number as well."""
    names: dict[Path, str] = {}
    stems = [path.stem for path in paths]
    for path in paths:
        name = path.stem if stems.count(path.stem) == 1 else path.name.replace(".", "_")
        base, number = name, 2
        while name in names.values():
            name, number = f"{base}_{number}", number + 1
        names[path] = name
    return names


def read_manifest(path: Path, output: Path, suffix: str = ".mp4") -> list[BatchItem]:
    """Reads items from a `.csv` with a header or a `.jsonl`: `source`, `driver` and, optionally, `output`.

    `source` and `driver` are relative to the manifest's folder; `output` is a path inside the output folder, by default
    named after both, with `suffix`.

    Raises:
        InputError: the manifest cannot be read, a row is incomplete or has unknown columns, or two rows write one file.
    """
    require_file(path, "manifest")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"expected {path.name} to be UTF-8 text, got other bytes: save it as UTF-8") from error
    if path.suffix.lower() == ".csv":
        rows: list[Any] = list(csv.DictReader(text.splitlines()))
    elif path.suffix.lower() == ".jsonl":
        rows = [_parse_line(line, path, number) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    else:
        raise InputError(f"expected a manifest ending in .csv or .jsonl, got {path.name}: save it as one of these")
    items: list[BatchItem] = []
    for number, row in enumerate(rows, 1):
        items.append(_item_of_row(row, number, path, output, suffix))
    if not items:
        raise InputError(f"expected rows with source and driver in {path.name}, got none: write one per item")
    _refuse_equal_outputs(items)
    return items


def _parse_line(line: str, path: Path, number: int) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(
            f"expected one JSON object per line in {path.name}, got something else in line {number}: correct it"
        ) from error


def _item_of_row(row: Any, number: int, path: Path, output: Path, suffix: str) -> BatchItem:
    known = {"source", "driver", "output"}
    if not isinstance(row, dict) or not row.get("source") or not row.get("driver"):
        raise InputError(f"expected source and driver in row {number} of {path.name}: fill both columns")
    unknown = set(row) - known
    if unknown:
        raise InputError(
            f"expected columns source, driver, output in {path.name}, got {', '.join(map(str, unknown))} too: drop it"
        )
    source, driver = path.parent / str(row["source"]), path.parent / str(row["driver"])
    name = str(row.get("output") or f"{source.stem}__{driver.stem}{suffix}")
    inside = Path(name)
    if inside.anchor or ".." in inside.parts:
        raise InputError(f"expected an output inside the output folder in row {number} of {path.name}, got {name}")
    return BatchItem(source, driver, output / inside)


def _refuse_equal_outputs(items: Sequence[BatchItem]) -> None:
    seen: dict[Path, BatchItem] = {}
    for item in items:
        if item.output in seen and seen[item.output] != item:
            raise InputError(
                f"expected different outputs in the manifest, got {item.output.name} in two rows: rename one"
            )
        seen[item.output] = item
