"""Frames that took long to render, kept beside the output until it is complete, so that a stopped run can resume.

They are PNG files in a hidden folder, whose name ends in a key of everything that a frame depends on. A run with
another key never reads them, even while both write the same output. Equal keys mean equal frames, so runs with one key
may share them.
"""

import hashlib
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from threading import Lock

import numpy as np
from PIL import Image

from flame.errors import InputError
from portrait4d.engines.base import Avatar, Engine
from portrait4d.options import ReenactOptions, option_facts
from portrait4d.runtime.records import digest, file_facts
from portrait4d.runtime.version import version
from preprocess.files.atomic import hidden_prefix
from preprocess.media.image import write_png
from preprocess.tracking.motion import Motion

WORTH_KEEPING_SECONDS = 1.0
"""Frames that took less time each are not kept: writing one takes 0.03 s."""

_FORMAT = 1
"""Increased whenever frames of an older state of the same program version must not be used."""

_KEY_LENGTH = 16


def frames_key(source: Path | None, avatar: Avatar, motion: Motion, *, options: ReenactOptions, engine: Engine) -> str:
    """A key that changes with everything that the frames of an output depend on.

    That is the photo, the motion tracked in it and in the driver, the options but those of the file alone (size,
    quality, sound), the device (devices round differently), the engine and its weights, and the program's version.
    """
    facts = {
        "source": None if source is None else file_facts(source),
        "tracked": [_motion_facts(avatar.motion), _motion_facts(motion)],
        "options": option_facts(replace(options, engine=engine.name, size=None, quality=None, audio=None)),
        "weights": engine.weights,
        "program": [version(), _FORMAT],
    }
    return digest(facts)


def _motion_facts(motion: Motion) -> list[str]:
    held = (motion,) if motion.neutral is None else (motion, motion.neutral)
    values = (getattr(part, item.name) for part in held for item in fields(part))
    return [hashlib.sha256(value.tobytes()).hexdigest() for value in values if isinstance(value, np.ndarray)]


class KeptFrames:
    """The kept frames of one output. Several threads may use it at once.

    Attributes:
        num_reused: Number of frames taken from an earlier run so far.
        warnings: What went wrong with keeping them, one line each.
    """

    def __init__(self, output: Path, key: str) -> None:
        """Removes the frames of this output that were kept under other keys."""
        self._output = output
        self._prefix = hidden_prefix(output.name)
        self._folder = output.parent / f"{self._prefix}{key[:_KEY_LENGTH]}.frames"
        self._lock = Lock()
        self.num_reused = 0
        self.warnings: tuple[str, ...] = ()
        self._remove_others()

    def _remove_others(self) -> None:
        pattern = re.compile(rf"{re.escape(self._prefix)}[0-9a-f]{{{_KEY_LENGTH}}}\.frames")
        for folder in self._output.parent.glob(".*.frames"):
            if pattern.fullmatch(folder.name) and folder != self._folder:
                shutil.rmtree(folder, ignore_errors=True)
                self._warn(f"frames that a run with other inputs had kept of {self._output.name} were removed")

    def count(self) -> int:
        """The number of frames that are kept now."""
        return sum(1 for _ in self._folder.glob("[0-9]*.png"))

    def frames(self, numbers: range, draw: Callable[[], np.ndarray]) -> np.ndarray:
        """The frames uint8 `[B, S, S, C]` with the given numbers, which are rendered as one batch.

        The kept ones, if all are there and undamaged; otherwise what `draw` returns, which is kept if it took long.
        """
        found = self._read(numbers)
        if found is not None:
            with self._lock:
                self.num_reused += len(numbers)
            return found
        begin = time.perf_counter()
        images = draw()
        if time.perf_counter() - begin > WORTH_KEEPING_SECONDS * len(numbers):
            self._keep(numbers, images)
        return images

    def _read(self, numbers: range) -> np.ndarray | None:
        try:
            return np.stack([_read_frame(self._path(number)) for number in numbers])
        except Exception:  # absent, or damaged: parsers raise OSError, SyntaxError, struct.error, EOFError ...
            return None

    def _keep(self, numbers: range, images: np.ndarray) -> None:
        try:
            for number, image in zip(numbers, images, strict=True):
                write_png(self._path(number), image)
        except (OSError, InputError) as error:  # e.g. a full disk; the output itself may still fit
            self._warn(f"not all frames could be kept for resuming a stopped run ({error})")

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06d}.png"

    def _warn(self, line: str) -> None:
        with self._lock:
            self.warnings = tuple(dict.fromkeys([*self.warnings, line]))

    def remove(self) -> None:
        """Removes all kept frames."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _read_frame(path: Path) -> np.ndarray:
    """The frame uint8 `[S, S, C]` as it was kept; raises what Pillow raises for a damaged file."""
    with Image.open(path) as picture:
        picture.verify()  # its checksums; decoding takes what it can of a damaged file
    with Image.open(path) as picture:
        return np.array(picture)


@contextmanager
def kept_frames(output: Path, key: str, *, num_frames: int) -> Iterator[KeptFrames]:
    """Keeps the frames of an output while it is written; removed on success, otherwise left for the next run.

    Args:
        output: The file that is written in this context.
        key: From `frames_key`.
        num_frames: Number of frames of the whole output.

    Raises:
        KeyboardInterrupt: Ctrl-C in this context; the text says how many frames are kept, if any are.
    """
    kept = KeptFrames(output, key)
    try:
        yield kept
    except KeyboardInterrupt as stop:
        if count := kept.count():
            raise KeyboardInterrupt(f"{count} of {num_frames} frames of {output.name} are kept") from stop
        raise
    kept.remove()
