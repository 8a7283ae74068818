"""The interface of engines: an `Engine` builds an `Avatar` from a tracked source and renders it as a `Drive` says.

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
from preprocess.media.mesh_files import write_mesh

if TYPE_CHECKING:
    import numpy as np
    from typing_extensions import TypeIs

    from flame.heads.head_model import HeadModel, HeadParams
    from preprocess.faces.crop import Crop
    from preprocess.tracking.motion import Motion
    from preprocess.tracking.motion_code.encoder import MotionEncoder
    from preprocess.tracking.tracker import TrackedFrame


@dataclass(frozen=True, kw_only=True)
class Drive(ArrayFields):
    """The motion of B frames in the terms of one avatar, after retargeting.

    Attributes:
        pose: the pose of the head in each frame, in camera space.
        head: the avatar's shape in each row, a neck of zero, and the expression, jaw and eyes to be shown.
        eye_closed: [B, 2] how far each pair of lids is shut, subject's left first; 1 is shut.
        residual: [B, 478, 3] displacement of the landmarks beyond the head model, metres, head frame.
        codes: [B, C] motion codes; C = 0 where there are none.
        noise_seeds: int64 [B, 1] seed of each frame's sampling noise; [B, 0] for fixed samples.
    """

    pose: HeadPose
    head: HeadParams
    eye_closed: Tensor
    residual: Tensor
    codes: Tensor
    noise_seeds: Tensor


@dataclass(frozen=True)
class Rendering:
    """Rendered frames: `image` [B, 3, H, W] in [-1, 1]; `alpha` [B, 1, H, W] in [0, 1], opacity of the person."""

    image: Tensor
    alpha: Tensor


@dataclass(frozen=True)
class Mesh:
    """A coloured surface in the head frame, with a texture or with vertex colours.

    Attributes:
        vertices: [V, 3] metres.
        faces: [F, 3], counter-clockwise seen from outside.
        uv: [V, 2] in [0, 1], origin at the top-left corner of the texture.
        texture: uint8 [H, W, 4] RGBA.
        colours: uint8 [V, 3] RGB.
        normals: [V, 3] unit vectors, where they are known better than from the faces.
    """

    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray | None = None
    texture: np.ndarray | None = None
    colours: np.ndarray | None = None
    normals: np.ndarray | None = None

    def write(self, path: Path) -> None:
        """Writes a `.glb`, `.ply` or `.obj`, see `write_mesh`."""
        write_mesh(
            path,
            self.vertices,
            self.faces,
            uv=self.uv,
            texture=self.texture,
            vertex_colours=self.colours,
            normals=self.normals,
        )


class Avatar(Protocol):
    """A source, ready to be animated."""

    @property
    def engine(self) -> str:
        """Name of the engine that built it."""
        ...

    @property
    def motion(self) -> Motion:
        """The tracked source, T = 1: of several, the one that is shown, as the object given to `Engine.build`."""
        ...

    @property
    def crop(self) -> Crop:
        """Where the rendered square lies in the source picture."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes the source hard for the engine, one sentence each."""
        ...

    def save(self, path: Path | str) -> None:
        """Writes the avatar to a `.safetensors` file, atomically."""
        ...


class Engine(Protocol):
    """Builds and renders avatars."""

    name: str

    engine_option: str
    """Value of `--engine` that means this engine with these weights: its name, or the path of the weights."""

    abilities: Abilities
    """Which of the options that only some engines have it has."""

    motion_encoder: MotionEncoder | None
    """The network that reads motion codes; None for an engine that is not driven by them."""

    placement: Placement
    """Where it draws the head."""

    weights: str
    """sha256 of the weights it runs with, and of the user's FLAME file if there is one; pictures depend on both. Empty
    for an engine without weights."""

    @property
    def head_model(self) -> HeadModel:
        """The head model that sources and drivers are tracked with."""
        ...

    def build(self, sources: Sequence[TrackedFrame]) -> Avatar:
        """Builds an avatar; of several pictures of one person, the engine shows one."""
        ...

    def load(self, path: Path | str) -> Avatar:
        """Reads what `Avatar.save` wrote.

        Raises:
            InputError: The file is missing, damaged, or not an avatar that this engine can draw.
        """
        ...

    def render(self, avatar: Avatar, drive: Drive) -> Rendering:
        """Renders a batch of frames, [B, 3, 512, 512] in [-1, 1].

        Raises:
            InputError: The avatar is of another engine, or the drive asks for an option that the engine does not have.
        """
        ...

    def mesh(self, avatar: Avatar, *, resolution: int | None = None) -> Mesh:
        """Returns the avatar's surface in the source's expression, head at rest, metres.

        Args:
            avatar: An avatar of this engine.
            resolution: Samples along each side of the cube that the surface is taken from; None for the engine's
                default. An engine that does not sample takes only None.

        Raises:
            InputError: The avatar is of another engine, or the engine does not take a resolution.
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


def is_avatar(value: object) -> TypeIs[Avatar]:
    """Whether a value is an avatar of some engine, and no path or picture."""
    return all(hasattr(value, name) for name in ("engine", "motion", "crop", "warnings"))


def check_avatar(avatar: Avatar, *, engine: Engine) -> Avatar:
    """Returns the avatar if an engine can draw it.

    Raises:
        InputError: Another engine built it; the message names both engines.
    """
    if avatar.engine != engine.name:
        raise InputError(
            f"expected an avatar of engine {engine.name}, got one of engine {avatar.engine}: build it again with "
            f"engine {engine.engine_option}, or use engine {avatar.engine}"
        )
    return avatar
