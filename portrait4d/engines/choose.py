"""Which engine runs: by name, by the place of its weights, or the best one whose weights are here."""

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
from portrait4d.engines.identity import STATIC, TRAINED_NAMES, trained_engine_at, weights_of
from portrait4d.engines.lift.abilities import ABILITIES as LIFT_ABILITIES
from portrait4d.engines.modes import Placement
from portrait4d.engines.portrait4d.abilities import ABILITIES as TRAINED_ABILITIES
from portrait4d.weights.config import CONFIG_FILE, TENSORS_FILE
from portrait4d.weights.folder import present_weights

if TYPE_CHECKING:
    import torch

ENGINE_NAMES = ("lift", *TRAINED_NAMES)


@dataclass(frozen=True)
class EngineStatus:
    """Whether an engine can run here.

    Attributes:
        name: Of the engine.
        available: Whether all of its weights are here.
        reason: Why it can run, or what is missing and how to get it.
        abilities: The options it knows.
        weights: Folder or file that the user named instead of an engine; None means the released weights.
    """

    name: str
    available: bool
    reason: str
    abilities: Abilities
    weights: Path | None = None


def available_engines() -> list[EngineStatus]:
    """All engines, best first, with what each needs."""
    present = present_weights()
    trained = [_trained_status(name, present) for name in reversed(TRAINED_NAMES)]
    return [*trained, EngineStatus("lift", True, "embedded, needs no weights", LIFT_ABILITIES)]


def _trained_status(name: str, present: Mapping[str, Path], *, weights: Path | None = None) -> EngineStatus:
    """Of a trained engine, with weights of the user's if they are named."""
    needed = [item for item in weights_of(name) if weights is None or item != name]
    missing = [item for item in needed if item not in present]
    if not missing:
        place = f"in {present[name].parent}" if weights is None else str(weights)
        return EngineStatus(name, True, f"its weights are {place}", TRAINED_ABILITIES, weights)
    commands = " and ".join(f"`portrait4d weights fetch {item}`" for item in missing)
    reason = f"not on this machine: {', '.join(missing)}; get with {commands}"
    return EngineStatus(name, False, reason, TRAINED_ABILITIES, weights)


def choose_engine(engine: str | Path = "auto") -> EngineStatus:
    """The engine that a user means.

    Args:
        engine: Its name; "auto" takes the best one whose weights are in the weights folder, but never static
            reconstruction, since no driver moves its face. Or a checkpoint folder or an official file of a Portrait4D
            network, which runs as the engine that `identity.trained_engine_at` finds. A name of an engine means that:
            write `./NAME` for a folder of the same name.

    Raises:
        InputError: No such engine, nothing is at the path, or it holds no weights of an engine.
    """
    statuses = available_engines()
    if engine == "auto":
        return next(status for status in statuses if status.available and status.name != STATIC)
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
    """Whether a text that is no engine's name means a folder or file: it is there, or looks like one."""
    separators = {os.sep, os.altsep or os.sep}
    return bool(text) and (Path(text).exists() or bool(Path(text).suffix) or not separators.isdisjoint(text))


def _nearest(name: str) -> str:
    return difflib.get_close_matches(name, ["auto", *ENGINE_NAMES], n=1, cutoff=0.0)[0]


def named_files(engine: str | Path) -> tuple[Path, ...]:
    """Files that a user named by naming an engine: what is written must not be one of them."""
    if isinstance(engine, str) and (engine in ("auto", *ENGINE_NAMES) or not _is_path(engine)):
        return ()
    path = Path(engine)
    return (path / TENSORS_FILE, path / CONFIG_FILE) if path.is_dir() else (path,)


def ensure_engine(engine: str | Path) -> None:
    """Fetches what an engine that was named lacks, before any work is done; of weights at a path the motion encoder.

    Raises:
        InputError: As `choose_engine`, or released weights are neither here nor to be had.
    """
    chosen = choose_engine(engine)
    if not chosen.available:
        from portrait4d.weights.store import fetch

        for weights in weights_of(chosen.name):
            if chosen.weights is None or weights != chosen.name:
                fetch(weights)


def load_engine(
    engine: str | Path = "auto",
    *,
    device: torch.device | str = "cpu",
    placement: Placement = "tracked",
    flame: str | None = None,
) -> Engine:
    """Loads what `choose_engine` chooses; released weights that an engine lacks are fetched.

    Args:
        engine: Name, checkpoint folder or official file.
        device: That it runs on.
        placement: Where it draws the head.
        flame: The user's FLAME file instead of the one that the weights hold.

    Raises:
        InputError: As `choose_engine`; released weights are neither here nor to be had; the engine does not know an
            option; no FLAME file.
    """
    chosen = choose_engine(engine)
    check_choices(chosen, {"placement": placement, "flame": flame})
    match chosen.name:
        case "lift":
            from portrait4d.engines.lift.engine import LiftEngine

            return LiftEngine(device=device)
        case name:
            from portrait4d.engines.portrait4d.loading import load_portrait4d

            return load_portrait4d(name, weights=chosen.weights, device=device, placement=placement, flame=flame)
