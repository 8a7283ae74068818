"""A video in memory, which notebooks play."""

import base64
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np

from flame.errors import InputError
from portrait4d.reenactment.output import write_video
from preprocess.files.atomic import atomic_path
from preprocess.media.result_writer import Sound


@dataclass(frozen=True)
class Video:
    """An encoded video.

    Attributes:
        data: the bytes of an MP4 file.
        num_frames: how many frames it has.
        frame_rate: frames per second.
        warnings: what went wrong with its sound, one sentence each.
    """

    data: bytes = field(repr=False)
    num_frames: int
    frame_rate: Fraction
    warnings: tuple[str, ...] = ()

    def save(self, path: str | Path) -> None:
        """Writes the file; it appears whole or not at all.

        Raises:
            InputError: the name does not end in .mp4.
        """
        if Path(path).suffix.lower() != ".mp4":
            raise InputError(f"expected a file name ending in .mp4, got '{Path(path).name}': rename it")
        with atomic_path(path) as temporary:
            temporary.write_bytes(self.data)

    def _repr_html_(self) -> str:
        text = base64.b64encode(self.data).decode()
        return f'<video controls loop src="data:video/mp4;base64,{text}"></video>'


def encode(
    frames: Iterator[np.ndarray],
    *,
    num_frames: int,
    frame_rate: Fraction,
    sound: Sound | None = None,
) -> Video:
    """Encodes frames as MP4; arguments as of `reenactment.output.write_video`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        written = write_video(path, frames, num_frames=num_frames, frame_rate=frame_rate, sound=sound)
        return Video(path.read_bytes(), num_frames, frame_rate, written.warnings)
