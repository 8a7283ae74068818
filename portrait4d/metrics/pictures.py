"""Sets of pictures to measure: a folder of them, or shards of a dataset; each known by a digest of its content."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from flame.errors import InputError
from preprocess.dataset.reading.dataset import Dataset, find_shards
from preprocess.dataset.records.shards import read_shard
from preprocess.files.digest import file_digest
from preprocess.media.image import read_image
from preprocess.media.stills import PICTURE_SUFFIXES


class Pictures(Protocol):
    """Pictures in a fixed order; `images` begins anew each time."""

    def __len__(self) -> int: ...

    @property
    def digest(self) -> str:
        """SHA-256 of their content and order, which caches of features go by."""
        ...

    def images(self) -> Iterator[NDArray[np.uint8]]:
        """uint8 `[H, W, 3]` each; sizes may differ."""
        ...


@dataclass(frozen=True)
class PictureFiles:
    """Picture files, in the order of their names."""

    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def digest(self) -> str:
        """Of the files' content, whatever they are called."""
        return _joint_digest([file_digest(path) for path in self.paths])

    def images(self) -> Iterator[NDArray[np.uint8]]:
        """Each as it is meant to be seen, see `read_image`."""
        yield from map(read_image, self.paths)


class ShardPictures:
    """The pictures of a dataset, with their backgrounds.

    Raises:
        InputError: see `preprocess.dataset.reading.dataset.Dataset`.
    """

    def __init__(self, paths: str | Path | Sequence[str | Path]) -> None:
        self._shards = [read_shard(path) for path in find_shards(paths)]
        self._records = Dataset(paths)

    def __len__(self) -> int:
        return len(self._records)

    @property
    def digest(self) -> str:
        """Of the shards, out of their indices where they have one."""
        return _joint_digest([shard.sha256 or file_digest(shard.path) for shard in self._shards])

    def images(self) -> Iterator[NDArray[np.uint8]]:
        """In the order of the dataset."""
        for index in range(len(self._records)):
            yield self._records[index].image


def open_pictures(path: str | Path) -> Pictures:
    """Pictures of a folder, through all levels, or of shards: a `.tar`, a folder of them, or a `.txt` list.

    Raises:
        InputError: there is neither.
    """
    path = Path(path)
    if path.suffix in (".tar", ".txt"):
        return ShardPictures(path)
    if not path.is_dir():
        state = "it is one file" if path.is_file() else "there is none"
        raise InputError(f"expected a folder of pictures, or shards (.tar, or a .txt list of them) at {path}, {state}")
    if any(not file.name.startswith(".") for file in path.glob("*.tar")):
        return ShardPictures(path)
    inside = (file for file in path.rglob("*") if file.suffix.lower() in PICTURE_SUFFIXES and file.is_file())
    files = sorted(file for file in inside if not file.name.startswith("."))
    if not files:
        raise InputError(f"{path} holds neither pictures nor shards (.tar): give the folder that has them")
    return PictureFiles(tuple(files))


def _joint_digest(parts: list[str]) -> str:
    return hashlib.sha256("".join(parts).encode()).hexdigest()
