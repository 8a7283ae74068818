"""Tracks a driver for a motion file: with the head model of an engine, or with one that the user brings."""

from pathlib import Path

from flame.errors import InputError
from flame.heads.flame import load_flame
from portrait4d.engines.choose import named_files
from portrait4d.options import ReenactOptions, TrackFileOptions, TrackOptions
from portrait4d.pipeline import track_clip, track_driver
from portrait4d.reenactment.driver import Driver
from portrait4d.runtime.device import check_device
from portrait4d.runtime.progress import Progress, ignore_progress
from preprocess.files.file_check import check_not_input
from preprocess.tracking.motion import Motion
from preprocess.tracking.parameter_table import write_parameters
from preprocess.tracking.tracker import Tracker


def run_track(
    driver: Path,
    output: Path,
    *,
    options: TrackOptions,
    files: TrackFileOptions,
    progress: Progress = ignore_progress,
) -> Motion:
    """Tracks a driver, and writes its motion and, if asked for, its parameters.

    Args:
        driver: video, picture or folder of frames.
        output: the motion file.
        options: of tracking.
        files: the head model to fit, and where parameters are written.
        progress: called after each frame.

    Raises:
        InputError: a file cannot be used, no face is found, or an output is one of the inputs.
    """
    chosen = ReenactOptions(**vars(options))
    inputs = [driver, options.flame, files.head_model, *named_files(options.engine)]
    for path in (output, *((files.parameters,) if files.parameters else ())):
        check_not_input(path, *inputs)
    if files.head_model is None:
        motion = track_driver(driver, output, options=chosen, progress=progress)
    else:
        motion = _track_with(files.head_model, driver, chosen, progress)
        motion.save(output)
    if files.parameters is not None:
        write_parameters(motion, Path(files.parameters))
    return motion


def _track_with(head_model: str, driver: Path, options: ReenactOptions, progress: Progress) -> Motion:
    """Tracks a clip with a FLAME file; no weights are needed."""
    if options.engine != "auto" or options.flame is not None:
        named = "--flame" if options.flame is not None else f"--engine {options.engine}"
        raise InputError(f"--head-model names the head that is fitted, and so does {named}: drop one")
    opened = Driver.open(driver, options)
    if opened.kind in ("motion", "released"):
        raise InputError(f"--head-model is fitted to pictures, got {driver.name}: give the video")
    tracker = Tracker(device=check_device(options.device), head_model=load_flame(head_model))
    return track_clip(opened, tracker, progress)
