"""Options of pictures, videos and shapes of a generator, in Python and on the command line.

The first paragraph below a field is also the help of its option on the command line, which is made from these classes.
"""

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Literal, get_args

from flame.errors import InputError
from portrait4d.render.shape_config import ShapeConfig
from portrait4d.runtime.checks import check_choice

CameraPath = Literal["original", "orbit"]
Shown = Literal["image", "depth", "raw"]

GREATEST_SEED = 2**32 - 1
"""The greatest seed that numpy's `RandomState` takes."""

ORIGINAL_MARGIN = 30 / 256
"""Share of the cube that the authors' scripts leave out at each border."""


@dataclass(frozen=True)
class StyleOptions:
    """How a seed is mapped to a style."""

    psi: float = 1.0
    """Truncation: 1 is none, 0.7 gives more ordinary heads, 0 the mean head."""

    cutoff: int | None = None
    """Truncate only the first N layers. Default: all."""

    def __post_init__(self) -> None:
        if not -2 <= self.psi <= 2:
            raise InputError(f"expected psi between -2 and 2 (1: no truncation, 0: the mean head), got {self.psi:g}")
        if self.cutoff is not None and self.cutoff < 0:
            raise InputError(f"expected a cutoff of 0 layers or more, got {self.cutoff}")


@dataclass(frozen=True)
class HeadOptions:
    """Which heads are rendered, and with which field of view."""

    seeds: tuple[int, ...] = (0, 1, 2, 3)
    """Numbers and ranges: 0-7,12. A seed gives the same head as in the authors' scripts."""

    style: StyleOptions = field(default_factory=StyleOptions)

    _: KW_ONLY

    fov_degrees: float | None = None
    """Field of view in true degrees. Default: the network's, 13.37 for faces."""

    def __post_init__(self) -> None:
        check_seeds(self.seeds)
        if self.fov_degrees is not None and not 0.5 <= self.fov_degrees <= 120:
            raise InputError(f"expected a field of view between 0.5 and 120 true degrees, got {self.fov_degrees:g}")


@dataclass(frozen=True)
class SampleOptions(HeadOptions):
    """Pictures of seeds from several sides; the views of a seed are one row."""

    yaw_degrees: tuple[float, ...] = (-23.0, 0.0, 23.0)
    """Views in degrees, > 0 nose to the viewer's right; write --yaw=-23,0,23.

    One value holds for all pitches.
    """

    pitch_degrees: tuple[float, ...] = (-7.3,)
    """Degrees, > 0 looks up; one for all views, or one for each."""

    has_depth: bool = False
    """Also seedN_depth.png: grey, near is bright."""

    has_depth_array: bool = False
    """Also seedN_depth.npy: float32 [views, h, w] in world units."""

    has_raw: bool = False
    """Also seedN_raw.png: before super-resolution."""

    has_grid: bool = False
    """Also grid.png: all seeds below each other."""

    def __post_init__(self) -> None:
        super().__post_init__()
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
        """Yaw and pitch of all views, in degrees."""
        count = max(len(self.yaw_degrees), len(self.pitch_degrees))
        yaw, pitch = (
            angles * count if len(angles) == 1 else angles for angles in (self.yaw_degrees, self.pitch_degrees)
        )
        return yaw, pitch


@dataclass(frozen=True)
class StyleVideoOptions(HeadOptions):
    """A video that loops through the heads of seeds; with a single seed, only the camera moves."""

    frames_per_seed: int = 120
    """Frames from one head to the next."""

    path: CameraPath = "original"
    """Path of the camera, once around: original is that of the authors' videos."""

    shown: Shown = "image"
    """The picture, its depth, or the picture before super-resolution."""

    fps: float = 60.0
    """Frames per second."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("path", self.path, get_args(CameraPath))
        check_choice("show", self.shown, get_args(Shown))
        if self.frames_per_seed < 1:
            raise InputError(f"expected 1 frame per seed or more, got {self.frames_per_seed}")
        if not 1 <= self.fps <= 240:
            raise InputError(f"expected 1 to 240 frames per second, got {self.fps:g}")

    @property
    def num_frames(self) -> int:
        """Number of frames of the whole video."""
        return len(self.seeds) * self.frames_per_seed


@dataclass(frozen=True)
class SeedShapeOptions:
    """The surface of the head of one seed."""

    seed: int = 0
    """Which head."""

    style: StyleOptions = field(default_factory=StyleOptions)

    shape: ShapeConfig = field(default_factory=lambda: ShapeConfig(margin=ORIGINAL_MARGIN))

    def __post_init__(self) -> None:
        check_seeds((self.seed,))


def check_seeds(seeds: Sequence[int]) -> None:
    """Refuses an empty list of seeds, and seeds that the random generator does not take.

    Raises:
        InputError: there is no seed, or one is out of range.
    """
    if not seeds:
        raise InputError("expected at least one seed, got none: give numbers such as 0-7,12")
    for seed in seeds:
        if not 0 <= seed <= GREATEST_SEED:
            raise InputError(f"expected seeds between 0 and {GREATEST_SEED}, got {seed}")
