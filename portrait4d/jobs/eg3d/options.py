"""What a user may choose for pictures and videos of a generator; the defaults are the command line's."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from flame.errors import InputError
from portrait4d.runtime.checks import check_choice

CameraPath = Literal["original", "orbit"]
Shown = Literal["image", "depth", "raw"]

GREATEST_SEED = 2**32 - 1
"""What numpy's `RandomState` takes."""


@dataclass(frozen=True)
class StyleOptions:
    """How a seed becomes a style.

    Attributes:
        psi: truncation: 1 for none, 0 for the network's mean head.
        cutoff: truncate only the first so many layers; None truncates all.
    """

    psi: float = 1.0
    cutoff: int | None = None

    def __post_init__(self) -> None:
        if not -2 <= self.psi <= 2:
            raise InputError(f"expected psi between -2 and 2 (1: no truncation, 0.7: calmer heads), got {self.psi:g}")
        if self.cutoff is not None and self.cutoff < 0:
            raise InputError(f"expected a cutoff of 0 layers or more, got {self.cutoff}")


@dataclass(frozen=True)
class SampleOptions:
    """Pictures of seeds from several sides.

    Attributes:
        seeds: one row of pictures each.
        style: see `StyleOptions`.
        yaw_degrees: views, > 0 turns the nose to the viewer's right; one value holds for all pitches.
        pitch_degrees: > 0 looks up; one value holds for all yaws.
        fov_degrees: true field of view; None takes the network's.
        has_depth: write the depth as a grey picture, near is bright.
        has_depth_array: write it as float32 `[views, h, w]` in world units as well.
        has_raw: write the picture before super-resolution.
        has_grid: write all seeds below each other.
    """

    seeds: tuple[int, ...]
    style: StyleOptions = field(default_factory=StyleOptions)
    yaw_degrees: tuple[float, ...] = (-23.0, 0.0, 23.0)
    pitch_degrees: tuple[float, ...] = (-7.3,)
    fov_degrees: float | None = None
    has_depth: bool = False
    has_depth_array: bool = False
    has_raw: bool = False
    has_grid: bool = False

    def __post_init__(self) -> None:
        check_seeds(self.seeds)
        _check_fov(self.fov_degrees)
        for name, angles in (("yaw", self.yaw_degrees), ("pitch", self.pitch_degrees)):
            if not angles or not all(math.isfinite(angle) for angle in angles):
                raise InputError(f"expected {name} angles in degrees, got {list(angles)}")
        if len(self.yaw_degrees) != len(self.pitch_degrees) and 1 not in (
            len(self.yaw_degrees),
            len(self.pitch_degrees),
        ):
            raise InputError(
                f"expected as many pitch as yaw angles, or one of either; "
                f"got {len(self.yaw_degrees)} yaw and {len(self.pitch_degrees)} pitch"
            )

    @property
    def views(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Yaw and pitch of every view."""
        count = max(len(self.yaw_degrees), len(self.pitch_degrees))
        yaw, pitch = (
            angles * count if len(angles) == 1 else angles for angles in (self.yaw_degrees, self.pitch_degrees)
        )
        return yaw, pitch


@dataclass(frozen=True)
class StyleVideoOptions:
    """A loop through the heads of seeds.

    Attributes:
        seeds: heads to pass through; of a single one the head stays and the camera moves.
        style: see `StyleOptions`.
        frames_per_seed: from one head to the next.
        path: way of the camera, once around in the whole video: the authors', or an orbit.
        shown: the picture, its depth, or the picture before super-resolution.
        fps: frames per second.
        fov_degrees: true field of view; None takes the network's.
    """

    seeds: tuple[int, ...]
    style: StyleOptions = field(default_factory=StyleOptions)
    frames_per_seed: int = 120
    path: CameraPath = "original"
    shown: Shown = "image"
    fps: float = 60.0
    fov_degrees: float | None = None

    def __post_init__(self) -> None:
        check_seeds(self.seeds)
        _check_fov(self.fov_degrees)
        check_choice("path", self.path, get_args(CameraPath))
        check_choice("show", self.shown, get_args(Shown))
        if self.frames_per_seed < 1:
            raise InputError(f"expected 1 frame per seed or more, got {self.frames_per_seed}")
        if not 1 <= self.fps <= 240:
            raise InputError(f"expected 1 to 240 frames per second, got {self.fps:g}")

    @property
    def num_frames(self) -> int:
        """Of the whole video."""
        return len(self.seeds) * self.frames_per_seed


def check_seeds(seeds: Sequence[int]) -> None:
    """Refuses what no random generator takes."""
    if not seeds:
        raise InputError("expected at least one seed, got none: give numbers such as 0-7,12")
    for seed in seeds:
        if not 0 <= seed <= GREATEST_SEED:
            raise InputError(f"expected seeds between 0 and {GREATEST_SEED}, got {seed}")


def _check_fov(degrees: float | None) -> None:
    if degrees is not None and not 0.5 <= degrees <= 120:
        raise InputError(f"expected a field of view between 0.5 and 120 true degrees, got {degrees:g}")
