"""The weights that an engine runs with, released or at a path, and the marks by which results depend on them."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from flame.errors import InputError
from portrait4d.weights.config import TENSORS_FILE, CheckpointConfig, is_checkpoint, read_config
from portrait4d.weights.folder import embedded_weights, weights_folder
from preprocess.files.digest import file_digest, flame_digest

if TYPE_CHECKING:
    from portrait4d.engines.base import Engine

STATIC = "portrait4d-static"
TRAINED_NAMES = ("portrait4d", STATIC, "portrait4d-v2")
"""Names of the engines with released weights, in the order of their release."""

OWN = "trained"
"""Name of the engine of every folder that `portrait4d train` wrote."""

TOY = "toy"
"""Name of the engine of the embedded reconstructor, which learned from drawings."""

MOTION_MODEL = "motion-model"

_TOY_FOLDER = "portrait4d-toy64"
_OWN_SOURCE = ", trained"


def weights_of(name: str, *, weights: Path | None = None) -> tuple[str, ...]:
    """Names of the released weights that an engine needs, beside those at a path if the user gave one.

    Args:
        name: Name of an engine with weights.
        weights: Folder or file that it runs with in place of the released weights.

    Raises:
        InputError: The config of a trained reconstructor is missing or damaged.
    """
    if name == TOY:
        return ()
    if name == OWN and weights is not None:
        return (MOTION_MODEL,) if needs_encoder(read_config(weights)) else ()
    needed = (name,) if name == STATIC else (name, MOTION_MODEL)
    return needed if weights is None else needed[1:]


def needs_encoder(config: CheckpointConfig) -> bool:
    """Whether a trained reconstructor is driven by codes that the motion encoder reads off pictures."""
    return config.architecture.get("motion") != "parameters" and not is_static(config)


def has_open_head(config: CheckpointConfig) -> bool:
    """Whether a trained reconstructor is of the open head, and not of the user's FLAME."""
    return config.architecture.get("head") == "open"


def is_static(config: CheckpointConfig) -> bool:
    """Whether a reconstructor never learned to change motion."""
    return config.source.startswith(STATIC)


def toy_folder() -> Path | None:
    """Where the embedded reconstructor lies; None in a package without it."""
    folder = embedded_weights().get(_TOY_FOLDER)
    return folder if folder is not None and is_checkpoint(folder) else None


def trained_engine_at(path: Path) -> str:
    """Finds the name of the engine that the weights at a path run as.

    What `portrait4d train` wrote runs as `OWN`. Other weights run as a released engine, told by the name of the
    official file that a folder was converted from (`source` in its `config.json`), or else by the name of the folder or
    file itself. It must begin with the engine's name, as the names of the released files do.

    Args:
        path: A checkpoint folder or an official file. A file is opened only if its name does not tell the engine.

    Raises:
        InputError: Nothing is at the path, the config is damaged, the network is of another kind, or no name tells the
            engine.
    """
    own_name, source = Path(os.path.abspath(path)).name, ""
    if path.is_dir():
        config = read_config(path)
        check_kind(config, cure=_another_than(path))
        if not (path / TENSORS_FILE).is_file():
            raise InputError(f"expected {TENSORS_FILE} in the checkpoint folder {path}, there is none: convert again")
        source = config.source
        if config.architecture and source.endswith(_OWN_SOURCE):
            return OWN
    elif not path.is_file():
        raise InputError(f"expected a checkpoint folder or an official file at {path}, there is none: check the path")
    elif path.name == TENSORS_FILE:
        raise InputError(f"expected a checkpoint folder or an official file, got {path}: give the folder it lies in")
    for text in (source, own_name):
        for name in sorted(TRAINED_NAMES, key=len, reverse=True):
            if text.startswith(name):
                return name
    if path.is_file():
        from portrait4d.weights.official.convert import convert_file  # loads torch

        check_kind(convert_file(path).config, cure=_another_than(path))
    raise InputError(
        f"{own_name} does not say which network it holds: expected a name that begins with {', '.join(TRAINED_NAMES)}, "
        "as the released files have: rename it"
    )


def check_kind(config: CheckpointConfig, *, engine: str = "portrait4d...", cure: str) -> None:
    """Refuses weights that are not those of a Portrait4D generator.

    Args:
        config: The config of the weights.
        engine: The engine that is to run with them, for the message.
        cure: What the user should do, for the message.

    Raises:
        InputError: The weights are of another kind of network.
    """
    if (config.family, config.network) != ("portrait4d", "generator"):
        found = config.family if config.network == "generator" else f"{config.family}'s {config.network}"
        raise InputError(
            f"expected the weights of a Portrait4D network for engine {engine}, got those of {found}: {cure}"
        )


def _another_than(path: Path) -> str:
    return f"give another {'folder' if path.is_dir() else 'file'} than {path}"


def weights_mark(path: Path) -> str:
    """The mark of the weights at a path: the identity in a folder's config, the sha256 of a file.

    Raises:
        InputError: Nothing is at the path, or the config is damaged.
    """
    if path.is_dir():
        return read_config(path).identity
    if not path.is_file():
        raise InputError(f"expected a checkpoint folder or an official file at {path}, there is none: check the path")
    status = path.stat()
    return _file_mark(path.resolve(), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=8)
def _file_mark(path: Path, num_bytes: int, changed_ns: int) -> str:
    """The sha256 of an official file (2 GB), computed again only when its length or time of change differs."""
    return file_digest(path)


def recorded_weights(name: str, *, weights: Path | None = None, flame: str | None = None) -> dict[str, str]:
    """The marks that `loaded_weights` would give, without loading any weights.

    Args:
        name: Name of the engine.
        weights: Folder or file that it runs with in place of the released weights.
        flame: The user's FLAME file.

    Raises:
        InputError: Weights are not on this machine, a config is damaged, or the FLAME file cannot be read.
    """
    if name == "lift":
        return {}
    places = {released: weights_folder() / released for released in (name, *weights_of(name, weights=weights))}
    if name == TOY:
        weights = toy_folder()
    if weights is not None:
        places[name] = weights
    found = {released: weights_mark(place) for released, place in places.items()}
    return {**found, name: with_flame(found[name], flame)}


def loaded_weights(engine: Engine) -> dict[str, str]:
    """The marks of the weights that an engine was loaded from, by name; empty for an engine without weights."""
    encoder = {} if engine.motion_encoder is None else {MOTION_MODEL: engine.motion_encoder.weights}
    return {engine.name: engine.weights, **encoder} if engine.weights else {}


def with_flame(weights: str, flame: str | None) -> str:
    """The mark of weights that run with the user's FLAME file (None: with the FLAME that they hold)."""
    if flame is None:
        return weights
    return f"{weights}+{flame_digest(Path(flame))}"


def without_flame(mark: str) -> str:
    """The part of a mark that stands for the weights alone; the inverse of `with_flame`."""
    return mark.partition("+")[0]
