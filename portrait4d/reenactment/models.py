"""The models, loaded once for any number of sources and drivers, and the check that they fit a call's options."""

from dataclasses import dataclass
from pathlib import Path

import torch

from flame.errors import InputError
from flame.heads.head_model import HeadModel
from portrait4d.engines.abilities import check_choices
from portrait4d.engines.base import Engine
from portrait4d.engines.choose import choose_engine, load_engine
from portrait4d.engines.identity import recorded_weights, with_flame, without_flame
from portrait4d.options import EngineOptions, ReenactOptions
from portrait4d.reenactment.report import Stopwatch
from portrait4d.runtime.device import check_device
from preprocess.tracking.tracker import Tracker


@dataclass(frozen=True)
class Models:
    """The engine and the tracker, both on `device`; loading them took `seconds`."""

    engine: Engine
    tracker: Tracker
    device: str = "cpu"
    seconds: float = 0.0

    @property
    def head_model(self) -> HeadModel:
        """The head model of the engine, which the tracker fits as well."""
        return self.engine.head_model


def load_models(options: EngineOptions) -> Models:
    """Loads the engine and the tracker; which face is tracked and how it is smoothed is chosen in each call.

    Raises:
        InputError: the engine or its weights cannot be found or fetched, or the device or an option cannot be used.
    """
    watch = Stopwatch()
    device = check_device(options.device)
    check_choices(choose_engine(options.engine), vars(options))
    placement = options.placement if isinstance(options, ReenactOptions) else "tracked"
    engine = load_engine(options.engine, device=device, placement=placement, flame=options.flame)
    tracker = Tracker(device=device, head_model=engine.head_model, motion_encoder=engine.motion_encoder)
    return Models(engine, tracker, device, watch.total())


def check_models(models: Models, options: EngineOptions) -> Models:
    """Returns the models if they are what the options name.

    Raises:
        InputError: their engine is another one or does not have an option, or their weights, placement, FLAME or device
            differ.
    """
    check_choices(models.engine, vars(options))
    if options.engine not in ("auto", models.engine.name):
        _check_engine(models.engine, options.engine)
    if isinstance(options, ReenactOptions) and options.placement != models.engine.placement:
        raise InputError(
            f"expected models with placement {options.placement!r}, got {models.engine.placement!r}: "
            "load_models(options) again"
        )
    if options.flame is not None and models.engine.weights != with_flame(
        without_flame(models.engine.weights), options.flame
    ):
        raise InputError(f"expected models with the FLAME file {options.flame}: load_models(options) again")
    asked, held = (torch.device(check_device(name)) for name in (options.device, models.device))
    if (asked.type, asked.index or 0) != (held.type, held.index or 0):
        raise InputError(
            f"expected models on {options.device}, got them on {models.device}: load_models(options) again"
        )
    return models


def _check_engine(engine: Engine, asked: str | Path) -> None:
    """Refuses an engine that is not the one that `asked` means, a name or the path of weights."""
    chosen = choose_engine(asked)
    if chosen.name != engine.name:
        place = "" if chosen.weights is None else f" with the weights at {chosen.weights}"
        raise InputError(
            f"expected models of engine {chosen.name!r}{place}, got {engine.name!r}: load_models(options) again"
        )
    if chosen.weights is not None:
        wanted = recorded_weights(chosen.name, weights=chosen.weights)[chosen.name]
        if without_flame(engine.weights) != wanted:
            raise InputError(
                f"expected models with the weights at {chosen.weights}, got {engine.name} with others: "
                "load_models(options) again"
            )
