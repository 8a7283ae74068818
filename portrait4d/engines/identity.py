"""Which weights an engine runs with: marks by which a record knows that results would differ."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from portrait4d.weights.config import read_config
from portrait4d.weights.folder import weights_folder
from preprocess.files.digest import flame_digest

if TYPE_CHECKING:
    from portrait4d.engines.base import Engine


def recorded_weights(name: str, *, flame: str | None = None) -> dict[str, str]:
    """What `loaded_weights` would say of an engine and the user's FLAME file, as the folders of its weights record it:
    no weights are loaded.

    Raises:
        InputError: they are not on this machine, or their config is damaged; no FLAME file.
    """
    if name == "lift":
        return {}
    found = {weights: read_config(weights_folder() / weights).identity for weights in weights_of(name)}
    return {**found, name: with_flame(found[name], flame)}


def loaded_weights(engine: Engine) -> dict[str, str]:
    """sha256 of each of the weights that an engine was loaded from, wherever they were."""
    encoder = {} if engine.motion_encoder is None else {"motion-model": engine.motion_encoder.weights}
    return {engine.name: engine.weights, **encoder} if engine.weights else {}


def with_flame(weights: str, flame: str | None) -> str:
    """The mark of weights that run with the user's FLAME file in place of their own."""
    if flame is None:
        return weights
    return f"{weights}+{flame_digest(Path(flame))}"


def weights_of(name: str) -> tuple[str, ...]:
    """Released weights that a trained engine needs; static reconstruction reads no motion."""
    return (name,) if name == "portrait4d-static" else (name, "motion-model")
