"""Which sound a result gets: that of a file the user names, or the driver's."""

from pathlib import Path

from portrait4d.options import ReenactOptions
from portrait4d.reenactment.driver import Driver
from preprocess.media.encodings import SOUND_SUFFIXES
from preprocess.media.result_writer import Sound


def wanted_sound(output: Path, driver: Driver, options: ReenactOptions) -> Sound | None:
    """The sound that a result should have; None for a kind of file without sound, or a silent driver."""
    if output.suffix.lower() not in SOUND_SUFFIXES:
        return None
    if options.audio is not None:
        return Sound(Path(options.audio), options.start)
    if driver.pictures is None or not driver.has_sound:
        return None
    return Sound(driver.pictures, driver.start_seconds)
