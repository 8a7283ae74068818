"""What every engine is: a tracked source becomes an `Avatar`; an avatar and a `Drive` become pictures.

Engines share tracker, retargeting, pipeline, video writer and mesh export; only `build`, `render` and `mesh` differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from torch import Tensor

from flame.errors import InputError
from flame.heads.head_pose import ArrayFields, HeadPose
from portrait4d.engines.abilities import Abilities
from portrait4d.engines.modes import Placement

if TYPE_CHECKING:
    import numpy as np

    from flame.heads.head_model import HeadModel, HeadParams
    from preprocess.faces.crop import Crop
    from preprocess.tracking.motion import Motion
    from preprocess.tracking.motion_code.encoder import MotionEncoder
    from preprocess.tracking.tracker import TrackedFrame


@dataclass(frozen=True, kw_only=True)
class Drive(ArrayFields):
    """What a batch of B frames asks of an avatar, in the avatar's own terms (retargeting is already done).

    `pose` of B heads; `head` the avatar's shape in B rows, a neck of zero, and expression, jaw and eyes to be shown;
    `eye_closed` [B, 2] how far each lid pair is shut, 1 = shut; `residual` [B, 478, 3] what the driver's landmarks do
    beyond its head model, metres, head frame; `codes` [B, C] motion codes, C = 0 where there are none; `noise_seeds`
    [B, 1] int64 of the sampling noise of each frame, [B, 0] where samples lie still.
    """

    pose: HeadPose
    head: HeadParams
    eye_closed: Tensor
    residual: Tensor
    codes: Tensor
    noise_seeds: Tensor


@dataclass(frozen=True)
class Rendering:
    """`image` [B, 3, H, W] in [-1, 1]; `alpha` [B, 1, H, W] of the person over the background, in [0, 1]."""

    image: Tensor
    alpha: Tensor


@dataclass(frozen=True)
class Mesh:
    """A coloured surface: `vertices` [V, 3] metres, `faces` [F, 3].

    `uv` [V, 2] (origin top-left) with `texture` uint8 [H, W, 4], or `colours` uint8 [V, 3]; `normals` [V, 3] where they
    are known better than from the faces.
    """

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

    engine_option: str
    """Value of `--engine` that means this engine with these weights: its name, or the path of the weights."""

    abilities: Abilities
    """Which of the options that not every engine knows it has."""

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
        """A batch of frames, [B, 3, 512, 512].

        Raises:
            InputError: The avatar is of another engine, or the drive asks for what the engine does not know.
        """
        ...

    def mesh(self, avatar: Avatar, *, resolution: int | None = None) -> Mesh:
        """The avatar's surface in its source expression.

        `resolution` samples along each side, None for the engine's own choice, the only one of an engine that takes no
        samples.

        Raises:
            InputError: The avatar is of another engine, or a resolution is asked of an engine that takes no samples.
        """
        ...


AvatarKind = TypeVar("AvatarKind", bound=Avatar)


def own_avatar(avatar: Avatar, kind: type[AvatarKind], *, engine: Engine) -> AvatarKind:
    """Returns the avatar as the class that an engine draws.

    Args:
        avatar: An avatar of any engine.
        kind: The class of the engine's avatars.
        engine: The engine that is to draw it.

    Raises:
        InputError: Another engine built it, or it is of another class; the message names both engines.
    """
    check_avatar(avatar, engine=engine)
    if not isinstance(avatar, kind):
        raise InputError(
            f"expected an avatar of engine {engine.name} ({kind.__name__}), got a {type(avatar).__name__}: build it "
            f"with engine {engine.engine_option}"
        )
    return avatar


def check_avatar(avatar: Avatar, *, engine: Engine) -> None:
    """Refuses an avatar that an engine cannot draw.

    Raises:
        InputError: Another engine built it; the message names both engines.
    """
    if avatar.engine != engine.name:
        raise InputError(
            f"expected an avatar of engine {engine.name}, got one of engine {avatar.engine}: build it again with "
            f"engine {engine.engine_option}, or use engine {avatar.engine}"
        )
