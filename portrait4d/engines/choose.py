"""The choice of an engine: by name, by the path of its weights, or the best one whose weights are on this machine."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flame.errors import InputError
from portrait4d.engines.abilities import Abilities, check_choices
from portrait4d.engines.base import Engine
from portrait4d.engines.identity import (
    OWN,
    STATIC,
    TOY,
    TRAINED_NAMES,
    has_open_head,
    toy_folder,
    trained_engine_at,
    weights_of,
)
from portrait4d.engines.lift.abilities import ABILITIES as LIFT_ABILITIES
from portrait4d.engines.modes import Placement
from portrait4d.engines.portrait4d.abilities import ABILITIES as TRAINED_ABILITIES
from portrait4d.engines.portrait4d.abilities import OPEN_HEAD_ABILITIES
from portrait4d.weights.config import CONFIG_FILE, TENSORS_FILE, read_config
from portrait4d.weights.folder import present_weights

if TYPE_CHECKING:
    import torch

ENGINE_NAMES = ("lift", *TRAINED_NAMES, TOY)


@dataclass(frozen=True)
class EngineStatus:
    """Whether an engine can run on this machine.

    Attributes:
        name: Name of the engine.
        available: Whether all of its weights are on this machine.
        reason: Why it can run, or what is missing and how to get it.
        abilities: The options that it has.
        weights: Folder or file of weights that the user gave in place of a name; None for the released weights.
    """

    name: str
    available: bool
    reason: str
    abilities: Abilities
    weights: Path | None = None


def available_engines() -> list[EngineStatus]:
    """The status of all engines, best first; the toy is last, since it only shows how engines are made."""
    present = present_weights()
    trained = [_trained_status(name, present) for name in reversed(TRAINED_NAMES)]
    return [*trained, EngineStatus("lift", True, "embedded, needs no weights", LIFT_ABILITIES), _toy_status()]


def _toy_status() -> EngineStatus:
    if toy_folder() is None:
        reason = "this package holds no weights of it: install one that does, or train --config portrait4d/toy64"
        return EngineStatus(TOY, False, reason, OPEN_HEAD_ABILITIES)
    return EngineStatus(TOY, True, "embedded, with its weights", OPEN_HEAD_ABILITIES)


def _trained_status(name: str, present: Mapping[str, Path], *, weights: Path | None = None) -> EngineStatus:
    """The status of a trained engine, with the user's weights if they are given."""
    is_open = weights is not None and name == OWN and has_open_head(read_config(weights))
    abilities = OPEN_HEAD_ABILITIES if is_open else TRAINED_ABILITIES
    missing = [item for item in weights_of(name, weights=weights) if item not in present]
    if not missing:
        place = f"in {present[name].parent}" if weights is None else str(weights)
        return EngineStatus(name, True, f"its weights are {place}", abilities, weights)
    commands = " and ".join(f"`portrait4d weights fetch {item}`" for item in missing)
    reason = f"not on this machine: {', '.join(missing)}; get with {commands}"
    return EngineStatus(name, False, reason, abilities, weights)


def choose_engine(engine: str | Path = "auto") -> EngineStatus:
    """Finds the engine that a user means.

    Args:
        engine: The name of an engine; "auto" takes the best one whose weights are in the weights folder, but never
            static reconstruction, since no driver moves its face, or the toy. Or the path of a checkpoint folder or
            official file of a Portrait4D network, which runs as what `identity.trained_engine_at` finds. A name comes
            before a path: write `./NAME` for a folder with the name of an engine.

    Raises:
        InputError: There is no such engine, nothing is at the path, or it holds no weights of an engine.
    """
    statuses = available_engines()
    if engine == "auto":
        return next(status for status in statuses if status.available and status.name not in (STATIC, TOY))
    known = {status.name: status for status in statuses}
    if isinstance(engine, str) and engine in known:
        return known[engine]
    if isinstance(engine, str) and not _is_path(engine):
        raise InputError(
            f"engine must be one of auto, {', '.join(ENGINE_NAMES)}, or a checkpoint folder or official file; got "
            f"{engine!r}: did you mean {_nearest(engine)!r}?"
        )
    path = Path(engine)
    return _trained_status(trained_engine_at(path), present_weights(), weights=path)


def _is_path(text: str) -> bool:
    """Whether a text that is no engine's name is meant as a path: it exists, has a suffix or a separator."""
    separators = {os.sep, os.altsep or os.sep}
    return bool(text) and (Path(text).exists() or bool(Path(text).suffix) or not separators.isdisjoint(text))


def _nearest(name: str) -> str:
    return difflib.get_close_matches(name, ["auto", *ENGINE_NAMES], n=1, cutoff=0.0)[0]


def named_files(engine: str | Path) -> tuple[Path, ...]:
    """The files that the user gave in place of an engine's name; nothing may be written over them."""
    if isinstance(engine, str) and (engine in ("auto", *ENGINE_NAMES) or not _is_path(engine)):
        return ()
    path = Path(engine)
    return (path / TENSORS_FILE, path / CONFIG_FILE) if path.is_dir() else (path,)


def ensure_engine(engine: str | Path) -> None:
    """Fetches the released weights that an engine lacks, so that a job fails before any work is done.

    Of an engine that was given by a path, only the motion encoder can be lacking.

    Raises:
        InputError: As `choose_engine`, or weights are not on this machine and cannot be fetched.
    """
    chosen = choose_engine(engine)
    if chosen.available:
        return
    if chosen.name == TOY:
        raise InputError(f"engine {TOY} cannot run: {chosen.reason}")
    from portrait4d.weights.store import fetch

    for weights in weights_of(chosen.name, weights=chosen.weights):
        fetch(weights)


def load_engine(
    engine: str | Path = "auto",
    *,
    device: torch.device | str = "cpu",
    placement: Placement = "tracked",
    flame: str | None = None,
) -> Engine:
    """Loads the engine that `choose_engine` finds; released weights that it lacks are fetched.

    Args:
        engine: Name, checkpoint folder or official file.
        device: The device that it runs on.
        placement: Where it draws the head.
        flame: The user's FLAME file, in place of the FLAME that the weights hold; trained weights of FLAME hold none
            and need it.

    Raises:
        InputError: As `choose_engine`; or weights cannot be fetched, the engine does not have an option, or the FLAME
            file is needed or cannot be read.
    """
    chosen = choose_engine(engine)
    check_choices(chosen, {"placement": placement, "flame": flame})
    match chosen.name:
        case "lift":
            from portrait4d.engines.lift.engine import LiftEngine

            return LiftEngine(device=device)
        case "trained" | "toy":
            from portrait4d.engines.portrait4d.trained import load_trained

            if (folder := chosen.weights or toy_folder()) is None:
                raise InputError(f"engine {TOY} cannot run: {chosen.reason}")
            return load_trained(chosen.name, folder, device=device, placement=placement, flame=flame)
        case name:
            from portrait4d.engines.portrait4d.loading import load_portrait4d

            return load_portrait4d(name, weights=chosen.weights, device=device, placement=placement, flame=flame)
