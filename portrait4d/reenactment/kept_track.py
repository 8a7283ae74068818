"""The track of a driver, kept beside the output of a run that is stopped while it draws, so that the next one goes on.

It is a hidden motion file whose name ends in a key of everything that the track depends on.
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from flame.errors import InputError
from portrait4d.engines.base import Engine
from portrait4d.options import ReenactOptions
from portrait4d.runtime.records import digest, file_facts
from preprocess.files.atomic import hidden_prefix
from preprocess.files.digest import head_digest
from preprocess.tracking.motion import Motion

WORTH_KEEPING_SECONDS = 2.0
"""A track that took less time is not kept."""

_FORMAT = 1
"""Increased whenever tracks of an older program must not be used."""

_KEY_LENGTH = 16


def driver_key(path: Path, options: ReenactOptions, engine: Engine) -> str:
    """A key of a driver's motion that changes with its files, the options of tracking, head model and motion encoder.

    Engines with the same head model and motion encoder share motions.
    """
    chosen = {name: getattr(options, name) for name in ("fps", "start", "duration", "smooth", "driver_face")}
    encoder = engine.motion_encoder
    tracked = {
        "head_model": [engine.head_model.name, head_digest(engine.head_model)],
        "motion_encoder": None if encoder is None else encoder.weights,
    }
    return digest({"driver": file_facts(path), "format": _FORMAT, **chosen, **tracked})


@dataclass
class KeptTrack:
    """The track of one run: that of an earlier run, or the one that is set; `seconds` since the context began."""

    motion: Motion | None = None
    began: float = field(default_factory=time.perf_counter)
    seconds: float = 0.0

    def set(self, motion: Motion) -> None:
        """Takes the finished track."""
        self.motion, self.seconds = motion, time.perf_counter() - self.began


@contextmanager
def kept_track(output: Path, key: str | None, *, driver: str) -> Iterator[KeptTrack]:
    """Offers the track that an earlier run of the same output kept, and keeps that of this run if it is stopped.

    Args:
        output: the file or folder that is written in this context.
        key: from `driver_key`; None keeps nothing.
        driver: name of the driver.

    Raises:
        KeyboardInterrupt: Ctrl-C in this context; the text says what is kept, if anything is.
    """
    if key is None:
        yield KeptTrack()
        return
    prefix = hidden_prefix(output.name)
    path = output.parent / f"{prefix}{key[:_KEY_LENGTH]}.track.npz"
    pattern = re.compile(rf"{re.escape(prefix)}[0-9a-f]{{{_KEY_LENGTH}}}\.track\.npz")
    for other in output.parent.glob(".*.track.npz"):
        if pattern.fullmatch(other.name) and other != path:
            other.unlink(missing_ok=True)
    track = KeptTrack(_read(path))
    is_earlier = track.motion is not None
    try:
        yield track
    except BaseException as error:
        is_kept = is_earlier or _keep(track, path)
        if is_kept and isinstance(error, KeyboardInterrupt):
            told = f"{error} and " if str(error) else ""
            raise KeyboardInterrupt(f"{told}the track of {driver} is kept") from error
        raise
    path.unlink(missing_ok=True)


def _read(path: Path) -> Motion | None:
    try:
        return Motion.load(path)
    except InputError:  # absent, or damaged by a hard kill: it is tracked again
        return None


def _keep(track: KeptTrack, path: Path) -> bool:
    if track.motion is None or track.seconds < WORTH_KEEPING_SECONDS:
        return False
    try:
        track.motion.save(path)
    except (OSError, InputError):  # a full disk must not hide why the run ended
        return False
    return True
