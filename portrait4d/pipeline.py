"""Reenactment from files to files: reading, tracking, building, retargeting, rendering, writing.

The parts are composed here and nowhere else. A reenactment has two phases: the avatar is built while the driver is
tracked; then frames are rendered on threads while finished ones are encoded. Frames that took long to render are kept
until the result is complete, so that a stopped run can resume.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import chain
from pathlib import Path

import numpy as np

from flame.errors import InputError
from portrait4d.engines.base import Avatar, is_avatar
from portrait4d.engines.choose import named_files
from portrait4d.options import ReenactOptions
from portrait4d.reenactment.compose import DriverView, PasteBack
from portrait4d.reenactment.driver import Driver
from portrait4d.reenactment.head_crops import render_frames
from portrait4d.reenactment.kept_frames import frames_key, kept_frames
from portrait4d.reenactment.kept_track import driver_key, kept_track
from portrait4d.reenactment.models import Models, check_models, load_models
from portrait4d.reenactment.output import WrittenSound, panels, scaled, write_video
from portrait4d.reenactment.report import ReenactReport, Stopwatch
from portrait4d.reenactment.request import check_motion_output, check_request
from portrait4d.reenactment.sound import wanted_sound
from portrait4d.reenactment.source import Source, build_source, save_source
from portrait4d.reenactment.turn_warnings import driver_turn_warnings
from portrait4d.runtime.memory import return_freed_memory
from portrait4d.runtime.progress import Progress, ignore_progress
from portrait4d.runtime.streams import one_torch_thread, prefetch
from preprocess.files.file_check import check_not_input
from preprocess.media.image import write_png
from preprocess.tracking.motion import Motion
from preprocess.tracking.origin import Origin
from preprocess.tracking.tracker import Tracker

SILENT = "the sound could not be used here: the result is silent"


def build_avatar(
    source: str | Path | Sequence[str | Path],
    output: str | Path | None = None,
    *,
    options: ReenactOptions | None = None,
    models: Models | None = None,
) -> Avatar:
    """Builds the avatar of a photo, or of several photos of one person, and saves it if `output` is given.

    Args:
        source: Photo or photos, or an avatar file.
        output: The avatar file to write; it keeps the photo as well.
        options: Engine, device, and which face.
        models: As in `reenact`.

    Raises:
        InputError: A file cannot be used, a photo shows no such face, or the models do not fit the options.
    """
    sources = [source] if isinstance(source, str | Path) else source
    if output is not None:
        named = () if options is None else (options.flame, *named_files(options.engine))
        check_not_input(output, *sources, *named)
    options, models = _settle(options, models)
    built = build_source(source, models=models, face=options.face)
    if output is not None:
        save_source(built, Path(output))
    return built.avatar


@one_torch_thread()
def track_driver(
    driver: str | Path | Motion | Driver,
    output: str | Path | None = None,
    *,
    options: ReenactOptions | None = None,
    models: Models | None = None,
    progress: Progress = ignore_progress,
) -> Motion:
    """Tracks a driver, or reads its motion, and saves the motion if `output` is given.

    A video, picture or folder of frames is tracked; a motion file or a folder of the released preprocessing is read.

    Args:
        driver: The path, a motion, or a driver that was opened with the same options.
        output: The motion file to write, `.npz`.
        options: `smooth` and `driver_face` apply only to what is tracked.
        models: As in `reenact`; loaded if they are needed and not given.
        progress: Called after each frame.

    Raises:
        InputError: The driver cannot be used, was opened with other options or shows no face, or the models do not fit.
    """
    if isinstance(driver, Driver):
        opened, options = driver, options or driver.options
        if options != opened.options:
            raise InputError(f"expected the options that {opened.path.name} was opened with, got others: open it again")
    else:
        options = options or default_options(models)
        opened = Driver.open(driver, options)
    if output is not None:
        check_motion_output(Path(output), opened, None if models is None else models.engine)
    if opened.kind == "motion":
        motion = opened.saved_motion()
    else:
        _, models = _settle(options, models)
        if opened.kind == "released":
            motion = opened.released_motion(models.engine, progress=progress)
        else:
            motion = track_clip(opened, models.tracker, progress)
    if output is not None:
        motion.save(Path(output))
    return motion


@one_torch_thread()
def track_clip(driver: Driver, tracker: Tracker, progress: Progress) -> Motion:
    """Tracks the driver's pictures; damage in them is added to the motion's warnings."""
    rate, total = driver.frame_rate, driver.num_frames
    damage: list[str] = []
    motion = tracker.track_video(
        prefetch(driver.frames(rate, warn=damage.append)),
        rate,
        source=driver.path.name,
        progress=lambda done: progress("track", done, total),
        face=driver.options.driver_face,
        smooth=driver.options.smooth,
    )
    return_freed_memory()
    origin = Origin.text_of(driver.path, start_seconds=driver.options.start)
    return dataclasses.replace(motion, warnings=(*motion.warnings, *damage), origin=origin)


@one_torch_thread()
def reenact(
    source: str | Path | Avatar,
    driver: str | Path | Motion,
    output: str | Path,
    *,
    options: ReenactOptions | None = None,
    progress: Progress = ignore_progress,
    models: Models | None = None,
) -> ReenactReport:
    """Makes the face of `source` move like `driver` and writes the result.

    Args:
        source: Photo, avatar file or avatar.
        driver: Video, picture, folder of frames, motion file or motion.
        output: What is written is chosen by the suffix: a video (`.mp4`, `.webm` ...), an animation (`.gif`, `.webp`),
            `.png` if the driver is one frame, or without a suffix a folder of numbered pictures.
        options: Everything else; see `ReenactOptions`.
        progress: Called after each step.
        models: From `load_models`, to reuse them between calls; they must be what the options name.

    Raises:
        InputError: A file cannot be used, no face is found, or the models do not fit the options; nothing is written.
    """
    options = options or default_options(models)
    source, output = source if is_avatar(source) else Path(source), Path(output)
    opened = check_request(None if is_avatar(source) else source, driver, output, options)
    watch = Stopwatch()
    progress("load", 0, None)
    options, models = _settle(options, models)
    watch.seconds["load"] = models.seconds
    key = driver_key(opened.path, options, models.engine) if opened.given is None else None
    with kept_track(output, key, driver=opened.path.name) as track:
        ready, motion = _source_and_motion(source, opened, options, models, watch, progress, track.motion)
        track.set(motion)
        return reenact_tracked(
            ready, motion, output, driver=opened, options=options, models=models, watch=watch, progress=progress
        )


def _source_and_motion(
    source: Path | Avatar,
    driver: Driver,
    options: ReenactOptions,
    models: Models,
    watch: Stopwatch,
    progress: Progress,
    known: Motion | None,
) -> tuple[Source, Motion]:
    """The first phase of `reenact`: the avatar is built while the driver is tracked, unless its motion is known."""
    with ThreadPoolExecutor(1, thread_name_prefix="source") as pool:

        def build() -> Source:
            with watch.stage("source"):
                return build_source(source, models=models, face=options.face)

        building = pool.submit(build)

        def track_progress(stage: str, done: int, total: int | None) -> None:
            if building.done():
                building.result()  # raises for a bad photo at once, not after tracking a long driver
            progress(stage, done, total)

        with watch.stage("track"):
            motion = known or track_driver(driver, options=options, models=models, progress=track_progress)
        return building.result(), motion


@one_torch_thread()
def reenact_tracked(
    ready: Source,
    motion: Motion,
    output: Path,
    *,
    driver: Driver,
    options: ReenactOptions,
    models: Models,
    watch: Stopwatch | None = None,
    progress: Progress = ignore_progress,
) -> ReenactReport:
    """The second phase of `reenact`: renders a built source under a tracked motion and writes the result.

    `driver` supplies the sound and the frames of the panels; `models` are those that the source was built with.

    Raises:
        InputError: The avatar, motion, output or options do not fit together; nothing is written.
    """
    watch = watch or Stopwatch()
    is_picture = output.suffix.lower() == ".png"
    if is_picture and len(motion) != 1:
        raise InputError(f"expected a one-frame driver for a picture output, got {len(motion)} frames: write an .mp4")
    wanted = wanted_sound(output, driver, options)
    key = frames_key(ready.path, ready.avatar, motion, options=options, engine=models.engine)
    with watch.stage("render"), kept_frames(output, key, num_frames=len(motion)) as kept:
        num_before = kept.count()
        with closing(render_frames(ready.avatar, motion, options=options, models=models, kept=kept)) as crops:
            frames = result_frames(ready, crops, motion=motion, options=options, driver=driver)
            if is_picture:
                write_png(output, next(frames))
                sound = WrittenSound(has_audio=False)
            else:
                is_there = wanted is not None and wanted.path.is_file()  # removed since: SILENT is reported
                sound = write_video(
                    output,
                    frames,
                    num_frames=len(motion),
                    frame_rate=motion.frame_rate,
                    sound=wanted if is_there else None,
                    quality=options.quality,
                    progress=lambda stage, done, total: progress(stage, max(done, num_before), total),
                )
    turned = driver_turn_warnings(motion, ready.avatar, options, models.head_model)
    silent = [SILENT] if wanted is not None and not sound.has_audio else []
    return ReenactReport.of_run(
        (ready.path or Path("(in memory)"), driver.path, output),
        motion,
        engine=ready.avatar.engine,
        num_kept_frames=kept.num_reused,
        has_audio=sound.has_audio,
        watch=watch,
        warnings=(*ready.avatar.warnings, *motion.warnings, *turned, *kept.warnings, *sound.warnings, *silent),
    )


def default_options(models: Models | None) -> ReenactOptions:
    """The options of a call that gives none: the defaults, on the device of the models."""
    return ReenactOptions() if models is None else ReenactOptions(device=models.device)


def _settle(options: ReenactOptions | None, models: Models | None) -> tuple[ReenactOptions, Models]:
    """Fills in default options, and loads the models or checks that they fit the options."""
    options = options or default_options(models)
    return options, load_models(options) if models is None else check_models(models, options)


def result_frames(
    ready: Source, rendered: Iterator[np.ndarray], *, motion: Motion, options: ReenactOptions, driver: Driver
) -> Iterator[np.ndarray]:
    """Composes the final frames uint8 `[H, W, C]` of rendered head crops uint8 `[S, S, C]`, as `options` ask.

    Raises:
        InputError: The whole picture is asked for, but the source is an avatar file, which does not hold it.
    """
    if options.crop:
        rendered = scaled(rendered, options.size)
    if options.crop and not options.side_by_side:
        return rendered
    if ready.picture is None:
        raise InputError(
            "expected a photo as source to paste into or to show beside, got an avatar file: give the photo"
        )
    if not options.crop:
        rendered = map(PasteBack(ready.picture, ready.avatar.crop, result_height=options.size), rendered)
    if not options.side_by_side:
        return rendered
    first = next(rendered)
    shown = ready.avatar.crop.apply(ready.picture) if options.crop else ready.picture
    view = DriverView(motion.crop_matrix if options.crop else None, motion.crop_size, first.shape[0])
    frames = prefetch(driver.frames(motion.frame_rate, warn=lambda line: None))  # tracking has put them into the motion
    return panels(shown, frames, view, chain([first], rendered))
