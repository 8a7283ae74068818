"""What every engine is: a tracked source becomes an `Avatar`; an avatar and a `Drive` become pictures.

Engines share tracker, retargeting, pipeline, video writer and mesh export; only `build`, `render` and `mesh` differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from flame.errors import InputError
from portrait4d.options import Placement

if TYPE_CHECKING:
    import numpy as np

    from flame.heads.head_model import HeadModel
    from preprocess.faces.crop import Crop
    from preprocess.tracking.motion import Motion
    from preprocess.tracking.motion_code.encoder import MotionEncoder
    from preprocess.tracking.tracker import TrackedFrame

ENGINE_NAMES = ("lift", "portrait4d", "portrait4d-static", "portrait4d-v2")


@dataclass(frozen=True)
class Drive:
    """What a batch of B frames asks of an avatar, in the avatar's own terms (retargeting is already done).

    `expression` [B, E] of the avatar's head model; `rotation`, `translation` [B, 3] of the head in camera space
    (radians, metres); `jaw` [B, 3] rotation of the jaw, zero where the jaw is an expression; `eyes` [B, 2, 3] eyeball
    rotations, subject's left first; `eye_closed` [B, 2] how far each lid pair is shut, 1 = shut; `residual` [B, 478, 3]
    what the driver's landmarks do beyond its head model, metres, head frame; `codes` [B, C] motion codes, C = 0 where
    there are none; `noise_seeds` [B, 1] int64 of the sampling noise of each frame, [B, 0] where samples lie still.
    """

    expression: Tensor
    rotation: Tensor
    translation: Tensor
    jaw: Tensor
    eyes: Tensor
    eye_closed: Tensor
    residual: Tensor
    codes: Tensor
    noise_seeds: Tensor

    def __len__(self) -> int:
        return self.expression.shape[0]

    def __getitem__(self, index: slice) -> Drive:
        return replace(self, **{field.name: getattr(self, field.name)[index] for field in fields(self)})

    def to(self, device: torch.device | str) -> Drive:
        """The same drive on another device."""
        return replace(self, **{field.name: getattr(self, field.name).to(device) for field in fields(self)})


@dataclass(frozen=True)
class Rendering:
    """`image` [B, 3, H, W] in [-1, 1]; `alpha` [B, 1, H, W] of the person over the background, in [0, 1]."""

    image: Tensor
    alpha: Tensor


@dataclass(frozen=True)
class Mesh:
    """A coloured surface: `vertices` [V, 3] metres, `faces` [F, 3]; `uv` [V, 2] (origin top-left) with `texture` uint8
    [H, W, 4], or `colours` uint8 [V, 3]; `normals` [V, 3] where they are known better than from the faces."""

    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray | None = None
    texture: np.ndarray | None = None
    colours: np.ndarray | None = None
    normals: np.ndarray | None = None


class Avatar(Protocol):
    """A source, ready to be animated."""

    @property
    def engine(self) -> str:
        """Name of the engine that built it."""
        ...

    @property
    def motion(self) -> Motion:
        """The tracked source, T = 1; the very object that `Engine.build` was given for the picture it shows."""
        ...

    @property
    def crop(self) -> Crop:
        """Where the rendered square lies in the source picture."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the source makes the engine bad at, in sentences."""
        ...

    def save(self, path: Path | str) -> None:
        """Write the avatar to a `.safetensors` file, atomically."""
        ...


class Engine(Protocol):
    """Builds and renders avatars."""

    name: str

    motion_encoder: MotionEncoder | None
    """Reads motion codes where the engine is driven by them."""

    placement: Placement
    """Where it draws the head."""

    weights: str
    """sha256 of the weights it runs with, and of the user's FLAME file if there is one: other pictures would come from
    others. Empty where it was not trained."""

    @property
    def head_model(self) -> HeadModel:
        """What sources and drivers are tracked with."""
        ...

    def build(self, sources: Sequence[TrackedFrame]) -> Avatar:
        """Everything that depends on the source alone; of several pictures of one person the engine shows one."""
        ...

    def load(self, path: Path | str) -> Avatar:
        """Read what `Avatar.save` wrote."""
        ...

    def render(self, avatar: Avatar, drive: Drive) -> Rendering:
        """A batch of frames, [B, 3, 512, 512]."""
        ...

    def mesh(self, avatar: Avatar, *, resolution: int | None = None) -> Mesh:
        """The avatar's surface in its source expression; `resolution` samples along each side, None for the engine's
        own choice, the only one of an engine that takes no samples."""
        ...


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
    missing = [weights for weights in _weights_of(name) if weights not in present]
    if not missing:
        return EngineStatus(name, True, f"its weights are in {present[name].parent}")
    commands = " and ".join(f"`portrait4d weights fetch {weights}`" for weights in missing)
    return EngineStatus(name, False, f"not on this machine: {', '.join(missing)}; get with {commands}")


def _weights_of(name: str) -> tuple[str, ...]:
    """Released weights that a trained engine needs; static reconstruction reads no motion."""
    return (name,) if name == "portrait4d-static" else (name, "motion-model")


def recorded_weights(name: str, *, flame: str | None = None) -> dict[str, str]:
    """What `loaded_weights` would say of an engine and the user's FLAME file, as the folders of its weights record it:
    no weights are loaded.

    Raises:
        InputError: they are not on this machine, or their config is damaged; no FLAME file.
    """
    if name == "lift":
        return {}
    from portrait4d.weights.config import read_config
    from portrait4d.weights.folder import weights_folder

    found = {weights: read_config(weights_folder() / weights).identity for weights in _weights_of(name)}
    return {**found, name: with_flame(found[name], flame)}


def loaded_weights(engine: Engine) -> dict[str, str]:
    """sha256 of each of the weights that an engine was loaded from, wherever they were."""
    encoder = {} if engine.motion_encoder is None else {"motion-model": engine.motion_encoder.weights}
    return {engine.name: engine.weights, **encoder} if engine.weights else {}


def with_flame(weights: str, flame: str | None) -> str:
    """The mark of weights that run with the user's FLAME file in place of their own."""
    if flame is None:
        return weights
    from preprocess.files.digest import flame_digest

    return f"{weights}+{flame_digest(Path(flame))}"


def ensure_engine(name: str) -> None:
    """Fetches what an engine asked for by name lacks, before any work is done.

    Raises:
        InputError: no such engine, or its weights are neither here nor to be had.
    """
    if not choose_engine(name).available:
        from portrait4d.weights.store import fetch

        for weights in _weights_of(name):
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


_OF_TRAINED_ENGINES: dict[str, tuple[object, str]] = {
    "placement": ("tracked", "draws the head where it was"),
    "jitter": (None, "takes no samples along rays"),
    "flame": (None, "has a head model of its own"),
    "mesh_resolution": (None, "has a mesh of its own"),
}
"""Options that `lift` does not know: the only value that it takes, and why."""


def check_choices(engine: str, choices: Mapping[str, object]) -> None:
    """Refuses what an engine does not know.

    Args:
        engine: its name, not "auto".
        choices: values of options by name; others than `_OF_TRAINED_ENGINES` are not looked at.

    Raises:
        InputError: the engine does not know one of them.
    """
    if engine != "lift":
        return
    for name, (only, reason) in _OF_TRAINED_ENGINES.items():
        value = choices.get(name, only)
        if value != only:
            name = name.replace("_", "-")
            wanted = f"no {name}" if only is None else f"{name} {only!r}"
            raise InputError(
                f"expected {wanted} for engine lift, which {reason}, got {value!r}: drop --{name}, or name an engine "
                "portrait4d..."
            )


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
