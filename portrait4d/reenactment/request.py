"""Checks of a reenactment's inputs and options that need no model."""

from pathlib import Path

from flame.errors import InputError
from portrait4d.engines.abilities import Able
from portrait4d.engines.choose import choose_engine, named_files
from portrait4d.options import ReenactOptions
from portrait4d.reenactment.driver import Driver
from portrait4d.runtime.paths import (
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    WRITABLE_VIDEO_SUFFIXES,
    check_output,
    is_avatar_file,
    is_motion_file,
    require_file,
)
from preprocess.files.file_check import check_not_input
from preprocess.tracking.motion import Motion


def check_request(source: Path | None, driver: str | Path | Motion, output: Path, options: ReenactOptions) -> Driver:
    """Checks source, driver, output and options before any model is loaded, and opens the driver.

    A `source` of None is an avatar in memory.

    Raises:
        InputError: a file is missing or of the wrong kind, an input would be overwritten, or the options contradict
            each other or the files.
    """
    if source is not None:
        require_file(source, "source")
    opened = Driver.open(driver, options)
    check_output(output, WRITABLE_VIDEO_SUFFIXES | {".png"})
    if source is not None and is_motion_file(source):
        raise InputError(
            f"expected a photo or an avatar file as source, got the motion file {source.name}: give it as the driver"
        )
    if source is not None and source.suffix.lower() in VIDEO_SUFFIXES - IMAGE_SUFFIXES - {".gif", ".apng"}:
        raise InputError(f"expected a photo as source, got the video {source.name}: save one frame of it as a picture")
    check_not_input(output, source, opened.path, options.flame, *named_files(options.engine))
    if opened.path.is_dir() and output.suffix.lower() in IMAGE_SUFFIXES:
        check_not_input(output, *(path for path in opened.path.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES))
    if options.placement == "canonical" and not options.crop:
        raise InputError("--paste-back needs the head where it was tracked, got --placement canonical: drop one")
    if (source is None or is_avatar_file(source)) and (options.side_by_side or not options.crop):
        asked = "--side-by-side" if options.side_by_side else "--paste-back"
        given = "an avatar" if source is None else f"the avatar file {source.name}"
        raise InputError(f"{asked} needs the picture, got {given}: give the photo instead")
    if options.side_by_side and opened.kind == "motion":
        raise InputError(
            f"--side-by-side shows the driver, got the motion file {opened.path.name}: give the video instead"
        )
    return opened


def check_motion_output(output: Path, opened: Driver, engine: Able | None) -> None:
    """Checks the file that a driver's motion is to be written to, before a long clip is tracked.

    Args:
        output: The file.
        opened: The driver.
        engine: The engine, if it is loaded already.

    Raises:
        InputError: It is one of the inputs, or a table of expressions, of which the engine's head model names none.
    """
    check_not_input(output, opened.path, opened.options.flame, *named_files(opened.options.engine))
    if output.suffix.lower() != ".csv":
        return
    engine = choose_engine(opened.options.engine) if engine is None else engine
    if engine.abilities.expressions:
        raise InputError(
            f"expected a .npz for a motion of engine {engine.name}, which {engine.abilities.expressions}, got "
            f"{output.name}: rename it, or take engine lift"
        )
