"""Which engine runs: by name, or the best one whose weights are here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from flame.errors import InputError
from portrait4d.engines.abilities import check_choices
from portrait4d.engines.base import Engine
from portrait4d.engines.identity import weights_of
from portrait4d.engines.modes import Placement

ENGINE_NAMES = ("lift", "portrait4d", "portrait4d-static", "portrait4d-v2")


@dataclass(frozen=True)
class EngineStatus:
    """Whether an engine can run here; `reason` says why, or what is missing and how to get it."""

    name: str
    available: bool
    reason: str


def available_engines() -> list[EngineStatus]:
    """All engines, best first, with what each needs."""
    from portrait4d.weights.folder import present_weights

    present = present_weights()
    trained = [_trained_status(name, present) for name in reversed(ENGINE_NAMES[1:])]
    return [*trained, EngineStatus("lift", True, "embedded, needs no weights")]


def _trained_status(name: str, present: Mapping[str, Path]) -> EngineStatus:
    missing = [weights for weights in weights_of(name) if weights not in present]
    if not missing:
        return EngineStatus(name, True, f"its weights are in {present[name].parent}")
    commands = " and ".join(f"`portrait4d weights fetch {weights}`" for weights in missing)
    return EngineStatus(name, False, f"not on this machine: {', '.join(missing)}; get with {commands}")


def ensure_engine(name: str) -> None:
    """Fetches what an engine asked for by name lacks, before any work is done.

    Raises:
        InputError: no such engine, or its weights are neither here nor to be had.
    """
    if not choose_engine(name).available:
        from portrait4d.weights.store import fetch

        for weights in weights_of(name):
            fetch(weights)


def choose_engine(name: str = "auto") -> EngineStatus:
    """The engine of that name; `auto` takes the best one whose weights are here. Static reconstruction is never chosen
    by itself, since no driver moves its face.

    Raises:
        InputError: no such engine.
    """
    statuses = available_engines()
    if name == "auto":
        return next(status for status in statuses if status.available and status.name != "portrait4d-static")
    known = {status.name: status for status in statuses}
    if name not in known:
        raise InputError(f"engine must be one of auto, {', '.join(ENGINE_NAMES)}; got {name!r}")
    return known[name]


def load_engine(
    name: str = "auto",
    *,
    device: torch.device | str = "cpu",
    placement: Placement = "tracked",
    flame: str | None = None,
) -> Engine:
    """Loads what `choose_engine` chooses; weights that an engine asked for by name lacks are fetched.

    Raises:
        InputError: no such engine, its weights are neither here nor to be had, or it does not know an option; no FLAME
            file.
    """
    chosen = choose_engine(name).name
    check_choices(chosen, {"placement": placement, "flame": flame})
    match chosen:
        case "lift":
            from portrait4d.engines.lift.engine import LiftEngine

            return LiftEngine(device=device)
        case other:
            from portrait4d.engines.portrait4d.loading import load_portrait4d

            return load_portrait4d(other, device=device, placement=placement, flame=flame)
