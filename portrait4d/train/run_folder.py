"""The folder of a run: what was asked for, on what, and how it went."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flame.errors import InputError
from portrait4d.train.config_file import differing_lines
from preprocess.files.atomic import atomic_path
from preprocess.media.image import write_png

CONFIG, FACTS, STATISTICS = "run.json", "facts.json", "stats.jsonl"
GRIDS, CHECKPOINTS, BOARD = "grids", "checkpoints", "tensorboard"

FREE_SETTINGS = (
    "total_images", "micro_batch", "recompute", "checkpoint_images", "checkpoint_seconds", "keep_last",
    "keep_every_images", "report_images", "grid_images", "max_bad_steps", "is_tensorboard",
)  # fmt: skip
"""Settings under `train` that do not change what is learned: a run may resume with others."""


class RunFolder:
    """Files of one run.

    Args:
        path: the folder; made if it is missing.
        config: the whole configuration in plain values.
        data_digest: of the training data.
        defaults: of all settings; a run that was begun before a setting existed has its default.

    Raises:
        InputError: the folder holds a run with another configuration or other data, or something else.
    """

    def __init__(
        self,
        path: str | Path,
        config: Mapping[str, Any],
        *,
        data_digest: str,
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / CHECKPOINTS
        asked = {"config": dict(config), "data": data_digest}
        file = self.path / CONFIG
        if file.is_file():
            before = json.loads(file.read_text(encoding="utf-8"))
            self._compare({**before, "config": _filled(before["config"], defaults or {})}, asked)
        elif self.path.is_file() or (self.path.is_dir() and any(self.path.iterdir())):
            raise InputError(
                f"expected an empty or new folder for the run, {self.path} holds something else: name another"
            )
        self._asked = asked

    def begin(self, facts: Mapping[str, Any]) -> None:
        """Writes the configuration, and what the run is made with: versions, code, machine."""
        with atomic_path(self.path / CONFIG) as temporary:
            temporary.write_text(json.dumps(self._asked, indent=1), encoding="utf-8")
        with atomic_path(self.path / FACTS) as temporary:
            temporary.write_text(json.dumps({**made_with(), **facts}, indent=1), encoding="utf-8")

    def keep_rows_until(self, images_seen: int) -> list[dict[str, Any]]:
        """Drops statistics of steps that will be taken again; returns the others."""
        rows = [row for row in self.rows() if row["images"] <= images_seen]
        if (self.path / STATISTICS).is_file():
            with atomic_path(self.path / STATISTICS) as temporary:
                temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return rows

    def rows(self) -> list[dict[str, Any]]:
        """The statistics so far."""
        file = self.path / STATISTICS
        rows = []
        for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
            with suppress(ValueError):  # a line that a kill cut off
                rows.append(json.loads(line))
        return rows

    def add_row(self, row: Mapping[str, Any]) -> None:
        """Appends a row of statistics."""
        with (self.path / STATISTICS).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")

    def write_grid(self, images_seen: int, picture: NDArray[np.uint8]) -> Path:
        """Writes a picture of fixed samples."""
        target = self.path / GRIDS / f"{images_seen:012d}.png"
        write_png(target, picture)
        return target

    def _compare(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        lines = differing_lines(_binding(before["config"]), _binding(after["config"]))
        if before["data"] != after["data"]:
            lines.append(f"data: {before['data'][:12]} -> {after['data'][:12]}")
        if lines:
            raise InputError(
                f"{self.path} holds a run with another configuration ({'; '.join(lines[:6])}): resume it with its own, "
                "or name another folder"
            )


def made_with() -> dict[str, Any]:
    """Versions of the libraries, the commit of the code if it lies in a repository, the machine."""
    versions = {}
    for name in ("portrait4d", "torch", "numpy", "scipy", "safetensors"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    code = Path(__file__).parent
    return {
        "versions": versions,
        "commit": _git(code, "rev-parse", "HEAD"),
        "changed_files": _git(code, "status", "--porcelain"),
        "python": platform.python_version(),
        "machine": platform.platform(),
        "processors": os.cpu_count(),
    }


def _git(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _filled(settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Settings, and the defaults of those that they lack."""
    filled = {**defaults, **settings}
    for name, default in defaults.items():
        if isinstance(default, Mapping) and isinstance(filled[name], Mapping):
            filled[name] = _filled(filled[name], default)
    return filled


def _binding(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that decide what is learned."""
    train = {name: value for name, value in config.get("train", {}).items() if name not in FREE_SETTINGS}
    return {**config, "train": train}
