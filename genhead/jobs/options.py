"""Options of pictures, videos and shapes of GenHead, in Python and on the command line; loads no torch.

The first paragraph below a field is also the help of its option on the command line, which is made from these classes.
"""

from dataclasses import dataclass, field
from typing import Literal, get_args

from flame.errors import InputError
from genhead.synthesis.config import SynthesisConfig
from portrait4d.jobs.eg3d.options import SampleOptions, Shown, StyleOptions, check_seeds
from portrait4d.render.shape_config import ShapeConfig
from portrait4d.runtime.checks import check_choice, check_range

VideoPath = Literal["orbit", "sweep", "drive"]


@dataclass(frozen=True)
class FaceOptions:
    """What the face does."""

    settings: tuple[str, ...] = ()
    """NAME=VALUE, any number of times: an expression (jawOpen=0.6), a joint in radians (jaw=0.2, neck_y=-0.3,
    eyes_y=0.3), or a number of the shape (shape_0=1.5)."""

    motion: str | None = None
    """Motion file (.npz) whose expression, jaw and eyes are taken; settings count on top of it."""

    frame: int = 0
    """Frame of the motion file, from 0."""

    def __post_init__(self) -> None:
        if self.frame < 0:
            raise InputError(f"expected a frame of 0 or more, got {self.frame}")


@dataclass(frozen=True, kw_only=True)
class HeadSampleOptions(SampleOptions):
    """Pictures of seeds from several sides with a chosen expression; the views of a seed are one row."""

    seeds: tuple[int, ...] = (0, 1, 2, 3)
    """Numbers and ranges: 0-7,12. A seed gives the same latent code as in the authors' scripts."""

    pitch_degrees: tuple[float, ...] = (0.0,)
    """Degrees, > 0 looks up; one for all views, or one for each."""

    fov_degrees: float | None = None
    """Field of view in true degrees. Default: that of the training cameras."""

    face: FaceOptions = field(default_factory=FaceOptions)


@dataclass(frozen=True)
class HeadVideoOptions:
    """A video of the heads of seeds, one beside the other."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Numbers and ranges: 0-7,12. Their heads stand beside each other."""

    style: StyleOptions = field(default_factory=StyleOptions)

    path: VideoPath = "orbit"
    """orbit: the camera goes around once. sweep: named expressions, one after another. drive: a motion file moves
    expression, jaw, eyes, and the head by its camera."""

    sweep: tuple[str, ...] = ()
    """What sweep shows, with commas: jawOpen,mouthSmileLeft+mouthSmileRight,eyes_y=0.3. Default: a choice of those
    that the head model has.

    A name alone rises to 1, or to its VALUE.
    """

    frames_per_step: int = 48
    """Frames once around, and of each expression's rise and fall."""

    face: FaceOptions = field(default_factory=FaceOptions)

    shown: Shown = "image"
    """The picture, its depth, or the picture before super-resolution."""

    fps: float = 24.0
    """Frames per second; drive takes the motion's."""

    def __post_init__(self) -> None:
        check_seeds(self.seeds)
        check_choice("path", self.path, get_args(VideoPath))
        check_choice("show", self.shown, get_args(Shown))
        check_range("frames-per-step", self.frames_per_step, 2, None)
        check_range("fps", self.fps, 1, 240)
        if (self.path == "drive") != (self.face.motion is not None):
            raise InputError(
                "expected --path drive and --motion FILE together, got one of them: a motion file drives, "
                "and nothing else does"
            )
        if self.sweep and self.path != "sweep":
            raise InputError(f"expected --sweep with --path sweep only, got --path {self.path}")


@dataclass(frozen=True)
class HeadShapeConfig(ShapeConfig):
    """How a head's surface is extracted."""

    resolution: int = 192
    """Samples along each side of the cube; time and memory grow with its cube."""

    iso: float | None = None
    """Raw density of the surface, or auto."""

    margin: float = 0.02
    """Part of the cube left out at each border."""


@dataclass(frozen=True)
class HeadShapeOptions:
    """The surface of the head of one seed with a chosen expression."""

    seed: int = 0
    """Which head."""

    style: StyleOptions = field(default_factory=StyleOptions)

    face: FaceOptions = field(default_factory=FaceOptions)

    shape: HeadShapeConfig = field(default_factory=HeadShapeConfig)

    def __post_init__(self) -> None:
        check_seeds((self.seed,))


@dataclass(frozen=True, kw_only=True)
class SynthesizeOptions:
    """How synthesised subjects are made and written."""

    config: SynthesisConfig = field(default_factory=SynthesisConfig)

    seed: int = 0
    """Of everything that is drawn."""

    num_workers: int = 1
    """Processes, one core each; the result does not depend on it."""

    subjects_per_shard: int = 20
    """Subjects a file; a file that was not finished is made again."""

    sheet: str | None = None
    """Also a contact sheet (.png): some persons with each other's motions from each other's cameras."""

    def __post_init__(self) -> None:
        check_seeds((self.seed,))
        check_range("workers", self.num_workers, 1, None)
        check_range("subjects-per-shard", self.subjects_per_shard, 1, None)
