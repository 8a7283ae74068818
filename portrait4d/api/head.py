"""A head in Python, of any engine: made of a picture, animated by a driver, posed by name, seen from a side, a mesh."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from flame.errors import InputError
from flame.heads.expression_names import ANGLES
from portrait4d.api.video import Video, encode
from portrait4d.engines.abilities import check_follows
from portrait4d.engines.base import Avatar, Engine, Mesh, check_avatar, is_avatar
from portrait4d.engines.own_drive import edited_drive, orbit_drive
from portrait4d.options import ReenactOptions
from portrait4d.pipeline import track_driver
from portrait4d.reenactment.driver import Driver
from portrait4d.reenactment.head_crops import render_drive, render_frames
from portrait4d.reenactment.models import Models, check_models, load_models
from portrait4d.reenactment.sound import wanted_sound
from portrait4d.runtime.checks import check_range
from portrait4d.runtime.paths import is_avatar_file, require_file
from portrait4d.runtime.streams import one_torch_thread
from preprocess.media.given_picture import Picture, is_one_picture, picture_of
from preprocess.media.image import png_bytes
from preprocess.media.video import Frame
from preprocess.tracking.edit import Values
from preprocess.tracking.motion import Motion
from preprocess.tracking.rest import RATES

DriverLike: TypeAlias = "Motion | Picture | Iterable[Picture]"
"""A motion; the path of a video, picture, folder of frames or motion file; a picture; or pictures in their order."""


class Head:
    """One person, ready to be animated: an avatar with the engine that draws it.

    Example:
        head = Head.from_image("photo.jpg")
        for frame in head.animate("video.mp4"):
            ...
        head.pose(smile=0.5, gaze=(0.2, 0))
    """

    def __init__(self, avatar: Avatar, models: Models, *, options: ReenactOptions | None = None) -> None:
        """Puts an avatar and its engine together; `from_image` does more.

        Args:
            avatar: of the engine in `models`.
            models: from `load_models`.
            options: how drivers are tracked and retargeted, by default those of `ReenactOptions`; their engine and
                device are ignored.

        Raises:
            InputError: the avatar is of another engine, or the engine was loaded with other options.
        """
        check_avatar(avatar, engine=models.engine)
        self.avatar, self.models = avatar, models
        self.options = options_for(models, options)

    @classmethod
    @one_torch_thread()
    def from_image(
        cls,
        images: Picture | Avatar | Sequence[Picture],
        *,
        engine: str | None = None,
        device: str | None = None,
        options: ReenactOptions | None = None,
        models: Models | None = None,
    ) -> Head:
        """Makes a head of a picture; of several pictures of one person, the most frontal is shown.

        Args:
            images: a picture, or several: paths, bytes of files, pictures of Pillow, uint8 `[H, W, 3]` RGB. Or an
                avatar file, or an avatar.
            engine: as `--engine`: a name, `auto`, or a path of weights; by default that of the models or options.
            device: `cpu`, `cuda`, ...; by default that of the models or options.
            options: everything else, as `face`, `flame`, `mode`.
            models: loaded before, to be shared by several heads; engine and device of the options are then ignored.

        Raises:
            InputError: a picture or file cannot be used, no face is found, the engine cannot be loaded, or the models
                are of another engine or on another device than these arguments name.
        """
        named = {name: value for name, value in (("engine", engine), ("device", device)) if value is not None}
        if models is None:
            models = load_models(replace(options or ReenactOptions(), **named))
        else:
            held = ReenactOptions(device=models.device, placement=models.engine.placement)
            check_models(models, replace(held, **named))
        return cls(_avatar_of(images, models, 0 if options is None else options.face), models, options=options)

    @property
    def engine(self) -> Engine:
        """The engine that draws the head."""
        return self.models.engine

    @property
    def motion(self) -> Motion:
        """The tracked photo, T = 1: the head's own pose and expression."""
        return self.avatar.motion

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes the photo hard for the engine, one sentence each."""
        return self.avatar.warnings

    def track(
        self, driver: DriverLike, *, frame_rate: float | Fraction = 25, options: ReenactOptions | None = None
    ) -> Motion:
        """The motion of a driver, for this head's engine.

        Args:
            driver: a motion is cut as the options say; anything else is read or tracked.
            frame_rate: frames per second of pictures, from 0.01 to 1000; files have their own.
            options: in place of the head's own; their engine and device are ignored.

        Raises:
            InputError: the driver cannot be used, or shows no face.
        """
        settled = self.options if options is None else options_for(self.models, options)
        if isinstance(driver, Motion | str | Path):
            return track_driver(driver, options=settled, models=self.models)
        check_range("frame_rate", float(frame_rate), *RATES)
        pictures = [driver] if is_one_picture(driver) else _several(driver, "a motion, a path, a picture or several")
        return _track_pictures(pictures, Fraction(frame_rate).limit_denominator(1001), settled, self.models)

    def animate(
        self, driver: DriverLike, *, frame_rate: float | Fraction = 25, options: ReenactOptions | None = None
    ) -> Iterator[NDArray[np.uint8]]:
        """Yields frames uint8 `[512, 512, 3]` RGB of the head, moved by a driver. The driver is tracked at once.

        Args:
            driver: see `track`, as the rest.
            frame_rate: frames per second of pictures.
            options: in place of the head's own.

        Raises:
            InputError: at once: the driver cannot be used, shows no face, or is of another head model.
        """
        settled = self.options if options is None else options_for(self.models, options)
        motion = self.track(driver, frame_rate=frame_rate, options=settled)
        return render_frames(self.avatar, motion, options=settled, models=self.models)

    def video(
        self, driver: DriverLike, *, frame_rate: float | Fraction = 25, options: ReenactOptions | None = None
    ) -> Video:
        """The whole animation as a video with the driver's sound, which notebooks play; arguments as in `animate`.

        Raises:
            InputError: as `animate`.
        """
        settled = self.options if options is None else options_for(self.models, options)
        motion = self.track(driver, frame_rate=frame_rate, options=settled)
        frames = render_frames(self.avatar, motion, options=settled, models=self.models)
        opened = Driver.open(driver, settled) if isinstance(driver, str | Path | Motion) else None
        sound = None if opened is None else wanted_sound(Path("video.mp4"), opened, settled)
        return encode(frames, num_frames=len(motion), frame_rate=motion.frame_rate, sound=sound)

    def pose(self, changes: Mapping[str, Values] | None = None, /, **named: Values) -> NDArray[np.uint8]:
        """The head with another expression, gaze or pose: uint8 `[512, 512, 3]` RGB.

        `head.pose(smile=0.5, gaze=(0.2, 0), yaw_degrees=10)`; the names are those of `Motion.edit`. What is not named
        stays as in the photo.

        Raises:
            InputError: a name or value is wrong, or the engine cannot follow.
        """
        given = {**(changes or {}), **named}
        check_follows(self.engine, [name for name in given if name not in ANGLES])
        motion = self.motion.edit(given, model=self.models.head_model)
        drive = edited_drive(self.avatar, motion, self.models.head_model, jitter=self.options.jitter)
        return render_drive(self.avatar, drive, models=self.models)[0]

    def view(self, yaw_degrees: float, pitch_degrees: float = 0.0) -> NDArray[np.uint8]:
        """The head in its own expression, turned to angles before the camera: uint8 `[512, 512, 3]` RGB.

        Args:
            yaw_degrees: > 0 nose to the viewer's right.
            pitch_degrees: > 0 looks up.

        Raises:
            InputError: an angle is not within -180 and 180.
        """
        for name, value in (("yaw_degrees", yaw_degrees), ("pitch_degrees", pitch_degrees)):
            check_range(name, value, -180.0, 180.0)
        angles = np.array([yaw_degrees], np.float64), np.array([pitch_degrees], np.float64)
        drive = orbit_drive(self.avatar, self.models.head_model, *angles, jitter=self.options.jitter)
        return render_drive(self.avatar, drive, models=self.models)[0]

    def mesh(self, *, resolution: int | None = None) -> Mesh:
        """The surface in the photo's expression, head at rest, metres, with texture or vertex colours.

        Args:
            resolution: samples along a side of the cube that the surface is taken from (engines portrait4d... only).

        Raises:
            InputError: the engine takes no resolution, or it is out of range.
        """
        return self.engine.mesh(self.avatar, resolution=resolution)

    def save(self, path: str | Path) -> None:
        """Writes an avatar file (`.safetensors`), which `from_image` and the commands take in place of the photo.

        Raises:
            InputError: the name has another suffix.
        """
        self.avatar.save(path)

    def __repr__(self) -> str:
        return f"Head(engine {self.engine.name!r} on {self.models.device}, {len(self.warnings)} warnings)"

    def _repr_png_(self) -> bytes:
        return png_bytes(self.pose())


def options_for(models: Models, options: ReenactOptions | None) -> ReenactOptions:
    """Options with the engine and the device of the models.

    Raises:
        InputError: the engine was loaded with another placement or FLAME.
    """
    given = vars(options or ReenactOptions(placement=models.engine.placement))
    settled = ReenactOptions(**{**given, "engine": models.engine.name, "device": models.device})
    check_models(models, settled)
    return settled


def _avatar_of(images: Picture | Avatar | Sequence[Picture], models: Models, face: int) -> Avatar:
    if isinstance(images, str | Path) and is_avatar_file(Path(images)):
        return models.engine.load(require_file(Path(images), "avatar file"))
    if is_avatar(images):
        return images
    pictures = [images] if is_one_picture(images) else _several(images, "a picture, several, or an avatar")
    return models.engine.build(models.tracker.track_images([picture_of(item) for item in pictures], face=face))


def _several(given: Iterable[Picture], expected: str) -> Iterable[Picture]:
    """Pictures in their order, as they were given.

    Raises:
        InputError: they are no pictures.
    """
    if not isinstance(given, Iterable):
        raise InputError(f"expected {expected}, got {type(given).__name__}")
    return given


@one_torch_thread()
def _track_pictures(
    pictures: Iterable[Picture], frame_rate: Fraction, options: ReenactOptions, models: Models
) -> Motion:
    """Tracks pictures one after the other; only the options that need no file hold.

    Raises:
        InputError: start, duration or fps are asked for, there are no pictures, or they show no face.
    """
    if not _takes_all(options):
        raise InputError("expected no start, duration or fps for pictures in memory: cut the pictures themselves")
    frames = (Frame(picture_of(picture), index / float(frame_rate), index) for index, picture in enumerate(pictures))
    return models.tracker.track_video(frames, frame_rate, face=options.driver_face, smooth=options.smooth)


def _takes_all(options: ReenactOptions) -> bool:
    return options.fps is None and options.duration is None and options.start == 0
