"""Where the pictures and the sound of a track came from: kept in its file, so that both are found again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from preprocess.files.npz import read_npz


@dataclass(frozen=True)
class Origin:
    """The clip of a track.

    Attributes:
        path: absolute path of the file or folder.
        num_bytes: of the file; 0 for a folder.
        start_seconds: of the clip, at which the track begins.
    """

    path: str
    num_bytes: int
    start_seconds: float

    @classmethod
    def of(cls, path: Path, *, start_seconds: float) -> Origin:
        """The origin of a track of the file or folder at `path`."""
        return cls(str(path.resolve()), 0 if path.is_dir() else path.stat().st_size, start_seconds)

    @classmethod
    def text_of(cls, path: Path, *, start_seconds: float) -> str:
        """The origin as it stands in a motion file; empty for a clip that is gone by now."""
        try:
            return cls.of(path, start_seconds=start_seconds).to_text()
        except OSError:
            return ""

    def to_text(self) -> str:
        """As it stands in a motion file."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_text(cls, text: str) -> Origin | None:
        """The inverse of `to_text`; None where there is no origin or it cannot be read."""
        try:
            values: Any = json.loads(text)
            origin = cls(str(values["path"]), int(values["num_bytes"]), float(values["start_seconds"]))
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return None
        return origin if 0 <= origin.start_seconds < 1e9 and origin.num_bytes >= 0 else None

    def find(self, motion_file: Path) -> Path | None:
        """The clip if it is still there, unchanged in size: at its path, or beside the motion file."""
        for path in (Path(self.path), motion_file.parent / Path(self.path).name):
            try:
                if path.is_dir() if not self.num_bytes else path.stat().st_size == self.num_bytes:
                    return path
            except OSError:
                continue
        return None


def read_origin(motion_file: Path) -> Origin | None:
    """The origin in a motion file, of which nothing else is read; None if it holds none."""
    try:
        text = read_npz(motion_file, names={"origin"}).get("origin")
    except ValueError:  # reading the motion itself says what is wrong
        return None
    return None if text is None or text.dtype.kind != "U" or text.shape != () else Origin.from_text(str(text))
