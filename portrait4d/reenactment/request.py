"""Checks of a reenactment's inputs and options that need no model."""

from pathlib import Path

from flame.errors import InputError
from portrait4d.engines.avatar_photo import holds_photo
from portrait4d.engines.choose import named_files
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


def check_request(source: Path, driver: str | Path, output: Path, options: ReenactOptions) -> Driver:
    """Checks source, driver, output and options before any model is loaded, and opens the driver.

    Raises:
        InputError: a file is missing or of the wrong kind, an input would be overwritten, or the options contradict
            each other or the files.
    """
    check_result(output, options)
    require_file(source, "source")
    opened = Driver.open(driver, options)
    if options.audio is not None:
        check_sound(Path(options.audio))
    if is_motion_file(source):
        raise InputError(
            f"expected a photo or an avatar file as source, got the motion file {source.name}: give it as the driver"
        )
    if source.suffix.lower() in VIDEO_SUFFIXES - IMAGE_SUFFIXES - {".gif", ".apng"}:
        raise InputError(f"expected a photo as source, got the video {source.name}: save one frame of it as a picture")
    check_not_input(output, source, opened.path, options.flame, *named_files(options.engine))
    if opened.path.is_dir() and output.suffix.lower() in IMAGE_SUFFIXES:
        check_not_input(output, *(path for path in opened.path.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES))
    if options.placement == "canonical" and not options.crop:
        raise InputError("--paste-back needs the head where it was tracked, got --placement canonical: drop one")
    if is_avatar_file(source) and (options.side_by_side or not options.crop) and not holds_photo(source):
        asked = "--side-by-side" if options.side_by_side else "--paste-back"
        raise InputError(
            f"{asked} needs the picture, got the avatar file {source.name}, which holds none: give the photo, or make "
            "the file again"
        )
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
