"""Frames that took long to draw, kept beside the output until it is whole, so that a stopped run can go on.

They are PNG files in a hidden folder whose name ends in a key of all that a frame depends on. A run of another key
never reads them, even while both write the same output; frames are equal wherever keys are, so runs of one key may
share them.
"""

import hashlib
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path
from threading import Lock

import numpy as np
from PIL import Image

from flame.errors import InputError
from portrait4d.engines.base import Avatar, Engine
from portrait4d.options import ReenactOptions
from portrait4d.runtime.records import digest, file_facts
from portrait4d.runtime.version import version
from preprocess.files.atomic import hidden_prefix
from preprocess.media.image import read_image, write_png
from preprocess.tracking.motion import Motion

WORTH_KEEPING_SECONDS = 1.0
"""Frames that took less each are not kept: writing one takes 0.03 s."""

_FORMAT = 1
"""Raised whenever frames of an older program of the same version must not be used."""

_KEY_LENGTH = 16


def frames_key(source: Path, avatar: Avatar, motion: Motion, *, options: ReenactOptions, engine: Engine) -> str:
    """Another one whenever anything changes that frames depend on.

    That is the photo, what was tracked in it and in the driver, an option, the device (which rounds in its own way),
    the engine and its weights, this program.
    """
    facts = {
        "source": file_facts(source),
        "tracked": [_motion_facts(avatar.motion), _motion_facts(motion)],
        "options": asdict(replace(options, engine=engine.name)),
        "weights": engine.weights,
        "program": [version(), _FORMAT],
    }
    return digest(facts)


def _motion_facts(motion: Motion) -> list[str]:
    values = (getattr(motion, item.name) for item in fields(motion))
    return [hashlib.sha256(value.tobytes()).hexdigest() for value in values if isinstance(value, np.ndarray)]


class KeptFrames:
    """The kept frames of one output; used by several threads at once.

    Attributes:
        num_reused: How many frames were taken from an earlier run so far.
        warnings: One line each.
    """

    def __init__(self, output: Path, key: str) -> None:
        """Throws away what was kept of this output under other keys."""
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
                self._warn(f"frames that a run with other inputs had kept of {self._output.name} were thrown away")

    def count(self) -> int:
        """How many frames are kept now."""
        return sum(1 for _ in self._folder.glob("[0-9]*.png"))

    def frames(self, numbers: range, draw: Callable[[], np.ndarray]) -> np.ndarray:
        """Frames `[B, S, S, 3]` that are drawn together.

        The kept ones if all are there and whole, else what `draw` returns, which is kept if it took long.
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
            for number in numbers:  # Pillow decodes damaged files as far as it can; their checksums tell
                with Image.open(self._path(number)) as picture:
                    picture.verify()
            return np.stack([read_image(self._path(number)) for number in numbers])
        except Exception:  # absent, or damaged: parsers raise OSError, SyntaxError, struct.error, EOFError ...
            return None

    def _keep(self, numbers: range, images: np.ndarray) -> None:
        try:
            for number, image in zip(numbers, images, strict=True):
                write_png(self._path(number), image)
        except (OSError, InputError) as error:  # as on a full disk; the output itself may still fit
            self._warn(f"not all frames could be kept for a run that is stopped ({error})")

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06d}.png"

    def _warn(self, line: str) -> None:
        with self._lock:
            self.warnings = tuple(dict.fromkeys([*self.warnings, line]))

    def remove(self) -> None:
        """Throws all of them away."""
        shutil.rmtree(self._folder, ignore_errors=True)


@contextmanager
def kept_frames(output: Path, key: str, *, num_frames: int) -> Iterator[KeptFrames]:
    """Frames of an output that is written inside: removed when that ends well, otherwise left for the next run.

    Args:
        output: The file.
        key: From `frames_key`.
        num_frames: Of the whole output.

    Raises:
        KeyboardInterrupt: It was inside; its text says how many frames are kept, if any are.
    """
    kept = KeptFrames(output, key)
    try:
        yield kept
    except KeyboardInterrupt as stop:
        if count := kept.count():
            raise KeyboardInterrupt(f"{count} of {num_frames} frames of {output.name} are kept") from stop
        raise
    kept.remove()
