"""Checks of a reenactment's inputs and options that need no model."""

from pathlib import Path

from flame.errors import InputError
from portrait4d.engines.abilities import Able
from portrait4d.engines.avatar_photo import holds_photo
from portrait4d.engines.choose import choose_engine, named_files
from portrait4d.options import ReenactOptions
from portrait4d.reenactment.driver import Driver
from portrait4d.reenactment.result_name import check_result
from portrait4d.runtime.paths import (
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
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
    check_result(output, options)
    if source is not None:
        require_file(source, "source")
    opened = Driver.open(driver, options)
    if options.audio is not None:
        check_sound(Path(options.audio))
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
    _check_picture(source, options)
    if options.side_by_side and opened.pictures is None:
        raise InputError(
            f"--side-by-side shows the driver, got the motion file {opened.path.name}, whose clip is not known or not "
            "here any more: give the video instead"
        )
    return opened


def check_sound(path: Path) -> None:
    """Refuses a file without sound that can be read.

    Raises:
        InputError: it has none.
    """
    from preprocess.media.audio import has_sound

    if not has_sound(path):
        raise InputError(f"expected a file with sound as --audio, got {path.name}, which has none: choose another")


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


def _check_picture(source: Path | None, options: ReenactOptions) -> None:
    """Refuses what shows the source's picture, where only an avatar without it is given."""
    if not options.side_by_side and options.crop:
        return
    asked = "--side-by-side" if options.side_by_side else "--paste-back"
    if source is None:
        raise InputError(f"{asked} needs the picture, got an avatar: give the photo instead")
    if is_avatar_file(source) and not holds_photo(source):
        raise InputError(
            f"{asked} needs the picture, got the avatar file {source.name}, which holds none: give the photo, or make "
            "the file again"
        )
