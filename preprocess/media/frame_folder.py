"""Writes frames as numbered PNG files into a folder that appears when it is whole."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np

from flame.errors import InputError
from preprocess.files.atomic_folder import atomic_folder
from preprocess.files.disk import explain_full_disk
from preprocess.media.encodings import FRAME_NAME
from preprocess.media.image import write_png


class FrameFolderWriter:
    """Context manager that writes `000000.png`, `000001.png` ...; each is marked as made by this program.

    A folder of an earlier run is replaced; one that holds other files is refused.

    Attributes:
        num_frames: frames written so far.
        has_audio: False: pictures hold no sound.
        warnings: none.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.num_frames, self.has_audio, self.warnings = 0, False, ()
        self._stack = ExitStack()

    def __enter__(self) -> FrameFolderWriter:
        self._temporary = self._stack.enter_context(atomic_folder(self.path, FRAME_NAME))
        return self

    def write(self, image: np.ndarray) -> None:
        """Appends one frame, `uint8 [H, W, 3]` RGB, or `[H, W, 4]` with opacity."""
        with explain_full_disk(self.path):
            write_png(self._temporary / f"{self.num_frames:06d}.png", image)
        self.num_frames += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None and self.num_frames == 0:
            error = InputError(f"{self.path}: there is no frame to write")
            self._stack.__exit__(InputError, error, None)
            raise error
        self._stack.__exit__(kind, error, traceback)
