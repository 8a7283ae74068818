"""The folder of weights on this machine, and what is in it. Does not load torch."""

import os
import sys
from pathlib import Path
from typing import Any

from flame.errors import InputError
from portrait4d.weights.config import CONFIG_FILE, LICENCES, is_checkpoint, read_config
from portrait4d.weights.table import released_files

_ASSETS = Path(__file__).resolve().parents[1] / "assets"


def embedded_weights() -> dict[str, Path]:
    """The networks that the package itself holds, by name: they learned from drawings of ours and need no licence."""
    return {path.parent.name: path.parent for path in sorted(_ASSETS.glob(f"*/{CONFIG_FILE}"))}


def weights_folder() -> Path:
    """Where weights are kept: `weights` in `$PORTRAIT4D_HOME`, or in the user's cache folder."""
    if home := os.environ.get("PORTRAIT4D_HOME"):
        return Path(home).expanduser() / "weights"
    if cache := os.environ.get("XDG_CACHE_HOME"):
        base = Path(cache)
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path.home() / ".cache"
    return base / "portrait4d" / "weights"


def present_weights() -> dict[str, Path]:
    """The released weights that are on this machine, converted, by name."""
    folders = {file.name: weights_folder() / file.name for file in released_files()}
    return {name: folder for name, folder in folders.items() if is_checkpoint(folder)}


def describe_embedded() -> list[dict[str, Any]]:
    """Rows of the table of embedded networks."""
    rows = []
    for name, folder in embedded_weights().items():
        config = read_config(folder)
        num_bytes = sum(path.stat().st_size for path in folder.iterdir())
        about = f"{config.source}; {config.licence}"
        rows.append({"name": name, "family": config.family, "about": about, "num_bytes": num_bytes})
    return rows


def describe_released() -> list[dict[str, Any]]:
    """Rows of the table of released files, with what is on this machine."""
    present = present_weights()
    rows = []
    for file in released_files():
        folder, config, problem = present.get(file.name), None, None
        if folder:
            try:
                config = read_config(folder)
            except InputError as error:
                problem = str(error)
        rows.append(
            {
                "name": file.name,
                "family": file.family,
                "about": file.about,
                "file": file.file_name,
                "origin": file.origin,
                "location": file.location,
                "licence": LICENCES[file.family],
                "approximate_bytes": file.num_bytes,
                "sha256": file.sha256,
                "folder": str(folder) if folder else None,
                "source_sha256": config.source_sha256 if config else None,
                "problem": problem,
            }
        )
    return rows
