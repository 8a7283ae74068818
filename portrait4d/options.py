"""Options of reenactment and rendering: the one definition for Python, the command line and records.

The first paragraph below a field is also the help of its option on the command line, which is made from these classes.
Names and values of fields are part of the keys by which a batch or a resumed run recognises its finished work, so that
renaming one makes old results count as unfinished.
"""

from dataclasses import KW_ONLY, asdict, dataclass, fields
from typing import Any, Literal, get_args

from flame.errors import InputError
from portrait4d.engines.modes import Placement
from portrait4d.engines.retarget_options import JitterOptions, RetargetOptions
from portrait4d.runtime.checks import check_choice, check_range
from portrait4d.runtime.device_options import DeviceOptions


@dataclass(frozen=True, kw_only=True)
class EngineOptions(DeviceOptions):
    """Which engine renders the head, and on which device."""

    engine: str = "auto"
    """lift, portrait4d, portrait4d-static, portrait4d-v2, toy, or auto: the best one whose weights are here. Or a path
    of weights: a checkpoint folder, also one of your training, or an official file."""

    flame: str | None = None
    """FLAME file (.pkl, .npz) in place of the FLAME that the weights hold (engines portrait4d... only); weights of a
    training with FLAME hold none and need it."""


@dataclass(frozen=True, kw_only=True)
class AvatarOptions(EngineOptions):
    """How an avatar is built of a source."""

    face: int = 0
    """Which face of the source if there are several; 0 is the largest."""

    def __post_init__(self) -> None:
        check_range("face", self.face, 0, 1000)


@dataclass(frozen=True, kw_only=True)
class AvatarFileOptions:
    """What an avatar file holds besides the avatar."""

    has_photo: bool = True
    """Keep the photo in the file, for --paste-back and --side-by-side."""


@dataclass(frozen=True, kw_only=True)
class TrackOptions(EngineOptions):
    """How a driver is tracked."""

    fps: float | None = None
    """Frames per second of the result. Default: the driver's."""

    start: float = 0.0
    """Seconds of the driver to skip."""

    duration: float | None = None
    """Seconds of the driver to use. Default: all."""

    smooth: float = 1.0
    """Strength of the tracker's smoothing; 0 switches it off."""

    driver_face: int = 0
    """Which face of the first frame with a face; 0 is the largest."""

    def __post_init__(self) -> None:
        check_range("fps", self.fps, 1.0, 240.0)
        check_range("start", self.start, 0.0, None)
        check_range("duration", self.duration, 1e-3, None)
        check_range("smooth", self.smooth, 0.0, 10.0)
        check_range("driver face", self.driver_face, 0, 1000)


@dataclass(frozen=True, kw_only=True)
class TrackFileOptions:
    """What is fitted in place of an engine's head, and what is written besides the motion file."""

    head_model: str | None = None
    """FLAME file (.pkl, .npz) to fit in place of the engine's head model; needs no weights."""

    parameters: str | None = None
    """File (.csv, .npz) that gets the head model's parameters as well, for other programs."""


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """How pictures and videos are written; the suffix of the output chooses the kind of file."""

    size: int | None = None
    """Height of the result in pixels; the width follows. Default: 512, or that of the whole picture."""

    quality: int | None = None
    """1 (small file) to 100. Default: 90; .gif and pictures have none."""

    transparent: bool = False
    """Leave out the background (.webm, .webp, .png, or a folder of pictures)."""

    def __post_init__(self) -> None:
        check_range("size", self.size, 16, 4096)
        check_range("quality", self.quality, 1, 100)


Format = Literal["mp4", "mov", "mkv", "webm", "gif", "webp", "frames"]


@dataclass(frozen=True, kw_only=True)
class FormatOptions:
    """The kind of files that a command names itself."""

    format: Format = "mp4"
    """Kind of file that is written; frames: a folder of numbered pictures."""

    @property
    def suffix(self) -> str:
        """Of the files; empty for folders."""
        return "" if self.format == "frames" else f".{self.format}"


@dataclass(frozen=True, kw_only=True)
class ReenactOptions(RetargetOptions, AvatarOptions, TrackOptions, OutputOptions):
    """How a driver animates a source."""

    crop: bool = True
    """Write the 512 x 512 head crop, or the whole picture with the head pasted back."""

    side_by_side: bool = False
    """Write source, driver and result side by side."""

    placement: Placement = "tracked"
    """tracked: the head where it was tracked; canonical: always in the middle, turned at the neck only, as in the
    released demonstrations (engines portrait4d... only).
    """

    driver_face: int = TrackOptions.driver_face
    """Which face of the driver's first frame with a face; 0 is the largest."""

    audio: str | None = None
    """File whose sound the result gets, cut by --start and --duration. Default: the driver's sound."""

    def __post_init__(self) -> None:
        for part in (RetargetOptions, AvatarOptions, TrackOptions, OutputOptions):
            part.__post_init__(self)
        check_choice("placement", self.placement, get_args(Placement))


@dataclass(frozen=True, kw_only=True)
class PoseOptions(JitterOptions, AvatarOptions):
    """What an avatar is posed to: `None` leaves it as in the photo. Expressions are from 0 (none) to 1 (full).

    `Motion.edit` says what the names do.
    """

    smile: float | None = None
    """Corners of the mouth up, 0 to 1."""

    frown: float | None = None
    """Corners of the mouth down."""

    jaw_open: float | None = None
    """Jaw open."""

    pucker: float | None = None
    """Lips drawn together as for a kiss."""

    funnel: float | None = None
    """Lips rounded and open."""

    blink: float | None = None
    """Both eyes shut."""

    blink_left: float | None = None
    """The subject's left eye shut."""

    blink_right: float | None = None
    """The subject's right eye shut."""

    squint: float | None = None
    """Lids narrowed."""

    eyes_wide: float | None = None
    """Lids wide open."""

    brows_up: float | None = None
    """Eyebrows up."""

    brows_down: float | None = None
    """Eyebrows down."""

    sneer: float | None = None
    """Wings of the nose up."""

    gaze: tuple[float, float] | None = None
    """Where the eyes look relative to the head, -1 to 1: > 0 to the viewer's right, > 0 up: --gaze=0.2,0."""

    yaw_degrees: float | None = None
    """Degrees of the head, > 0 nose to the viewer's right."""

    pitch_degrees: float | None = None
    """Degrees of the head, > 0 looks up."""

    roll_degrees: float | None = None
    """Degrees of the head, > 0 clockwise as the viewer sees it."""

    others: tuple[tuple[str, float], ...] = ()
    """NAME=VALUE for any of the 52 expressions of docs/expressions.md, such as mouthLeft=0.4; may be repeated."""

    def __post_init__(self) -> None:
        for part in (JitterOptions, AvatarOptions):
            part.__post_init__(self)

    @property
    def changes(self) -> dict[str, float | tuple[float, float]]:
        """What `Motion.edit` is to set: values by name, groups before their members."""
        given = {name: getattr(self, name) for name in POSED}
        return {**{name: value for name, value in given.items() if value is not None}, **dict(self.others)}


_NOT_POSED = {item.name for part in (JitterOptions, AvatarOptions) for item in fields(part)} | {"others"}

POSED = tuple(item.name for item in fields(PoseOptions) if item.name not in _NOT_POSED)
"""Names of the fields of `PoseOptions` that are what `Motion.edit` calls so."""


@dataclass(frozen=True)
class RenderOptions(JitterOptions, AvatarOptions, OutputOptions):
    """How an avatar is rendered without a driver."""

    yaw_degrees: tuple[float, ...] = ()
    """Degrees, comma-separated, > 0 nose to the viewer's right: --yaw=-20,0,20. Default: orbit.

    A video moves smoothly through them; a picture output has one picture for each.
    """

    pitch_degrees: tuple[float, ...] = ()
    """Degrees, comma-separated, > 0 looks up.

    One value holds for all views.
    """

    duration: float = 4.0
    """Seconds of video."""

    fps: float = 25.0
    """Frames per second of video."""

    _: KW_ONLY

    mesh_resolution: int | None = None
    """Samples along a side of the cube that a mesh is taken from; time, memory and file size grow with it. Default:
    256 (engines portrait4d... only).
    """

    whole_head: bool = False
    """A mesh of the whole head, closed at the back, with the 52 ARKit expressions and joints (.glb, engine lift only).
    """

    def __post_init__(self) -> None:
        for part in (JitterOptions, AvatarOptions, OutputOptions):
            part.__post_init__(self)
        check_range("duration", self.duration, 1e-3, None)
        check_range("fps", self.fps, 1.0, 240.0)
        for angle in (*self.yaw_degrees, *self.pitch_degrees):
            check_range("angle", angle, -180.0, 180.0)
        counts = {len(self.yaw_degrees), len(self.pitch_degrees)} - {0, 1}
        if len(counts) > 1:
            raise InputError(
                f"expected as many yaw as pitch angles (or one), got {len(self.yaw_degrees)} and "
                f"{len(self.pitch_degrees)}: give lists of one length"
            )


_ADDED = ("size", "quality", "transparent", "audio")
"""Fields that did not exist when the first results were finished."""


def option_facts(options: ReenactOptions) -> dict[str, Any]:
    """The options by name, for the keys by which finished work is recognised; see the top of this file.

    A field that was added later counts only where it is not its default, so that older results stay finished.
    """
    values = asdict(options)
    unasked = {name for name in _ADDED if values[name] == getattr(ReenactOptions, name)}
    return {name: value for name, value in values.items() if name not in unasked}
