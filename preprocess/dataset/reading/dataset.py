"""Reads datasets for training: by index for small sets, as a stream for large ones.

A dataset is named by shards, by folders of shards, or by a `.txt` that lists either, one a line, relative to itself. To
merge datasets, write such a list.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor
from torch.utils import data

from flame.errors import InputError
from preprocess.dataset.reading.balance import replica_counts, yaw_degrees
from preprocess.dataset.reading.flip import HeadMirror, flip_record
from preprocess.dataset.records.record import DatasetInfo, Record
from preprocess.dataset.records.record_codec import decode_record
from preprocess.dataset.records.shards import Shard, read_shard

Paths = str | Path | Sequence[str | Path]

_MAX_OPEN_FILES = 32


class Dataset(data.Dataset[Record]):
    """Reads records by index, in the order of the listing; mirrored ones follow after all others.

    It pickles as a list of paths; each worker opens files when it needs them.

    Args:
        paths: see the module.
        mirror: of the head model; adds each record's mirror image. See `preprocess.dataset.reading.flip`.
        is_balanced: whether to repeat turned heads, see `preprocess.dataset.reading.balance`; reads all cameras first.

    Raises:
        InputError: there are no shards, one is damaged, they do not belong together, or two hold the same record.
    """

    def __init__(self, paths: Paths, *, mirror: HeadMirror | None = None, is_balanced: bool = False) -> None:
        shards = [read_shard(path) for path in find_shards(paths)]
        self.info = _common_info(shards)
        _refuse_code(self.info, mirror)
        _refuse_repeats(shards)
        self.paths = [shard.path for shard in shards]
        self.mirror = mirror
        self._starts = np.cumsum([0, *map(len, shards)])
        entries = np.arange(self._starts[-1])
        if is_balanced:
            labels = np.array([camera for shard in shards for camera in shard.cameras()]).reshape(-1, 25)
            entries = np.repeat(entries, replica_counts(yaw_degrees(labels)))
        self._entries = entries if mirror is None else np.concatenate([entries, entries + self._starts[-1]])
        self._process, self._shards, self._files = 0, {}, {}

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Record:
        if not -len(self) <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        is_mirrored, position = divmod(int(self._entries[index]), int(self._starts[-1]))
        shard_index = int(np.searchsorted(self._starts, position, side="right")) - 1
        shard, file = self._open(shard_index)
        record = shard.read(shard.keys[position - self._starts[shard_index]], file)
        return flip_record(record, self.mirror) if is_mirrored and self.mirror is not None else record

    def keys(self) -> list[str]:
        """Keys of all records, without mirrored or repeated ones, in the order of the listing."""
        return [key for path in self.paths for key in read_shard(path).keys]

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_process": 0, "_shards": {}, "_files": {}}

    def _open(self, shard_index: int) -> tuple[Shard, BinaryIO]:
        if self._process != os.getpid():  # a forked worker must not share the read position of its parent's files
            self._process, self._files = os.getpid(), {}
        if shard_index not in self._shards:
            self._shards[shard_index] = read_shard(self.paths[shard_index])
        if shard_index not in self._files:
            if len(self._files) >= _MAX_OPEN_FILES:
                self._files.pop(next(iter(self._files))).close()
            self._files[shard_index] = self.paths[shard_index].open("rb")
        return self._shards[shard_index], self._files[shard_index]


class StreamingDataset(data.IterableDataset[Record]):
    """Streams records as they lie in the shards, shuffled in a buffer; ranks and their workers share out the shards.

    Args:
        paths: see the module.
        seed: of the order; the same for all ranks.
        buffer_size: number of encoded records that a worker holds to draw from; 1 keeps the order within a shard.
        rank: the part that this process reads. Ranks may differ in their number of records.
        num_ranks: number of parts.
        mirror: of the head model; mirrors each record with a probability of one half.

    Raises:
        InputError: there are no shards, or they do not belong together; on reading: there are more readers than shards.
    """

    def __init__(
        self,
        paths: Paths,
        *,
        seed: int = 0,
        buffer_size: int = 256,
        rank: int = 0,
        num_ranks: int = 1,
        mirror: HeadMirror | None = None,
    ) -> None:
        if buffer_size < 1 or not 0 <= rank < num_ranks:
            raise ValueError(f"expected buffer_size >= 1 and rank < num_ranks, got {buffer_size}, {rank}, {num_ranks}")
        shards = [read_shard(path) for path in find_shards(paths)]
        self.info = _common_info(shards)
        _refuse_code(self.info, mirror)
        self.paths = [shard.path for shard in shards]
        self.seed, self.buffer_size, self.rank, self.num_ranks = seed, buffer_size, rank, num_ranks
        self.mirror = mirror
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Sets another order; call it before each pass, with workers that do not persist."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Record]:
        worker = data.get_worker_info()
        num_workers, worker_index = (worker.num_workers, worker.id) if worker else (1, 0)
        reader, num_readers = self.rank * num_workers + worker_index, self.num_ranks * num_workers
        if len(self.paths) < num_readers:
            raise InputError(
                f"expected at least {num_readers} shards for {self.num_ranks} ranks of {num_workers} workers, got "
                f"{len(self.paths)}: use fewer workers, or Dataset"
            )
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.paths))
        random = np.random.default_rng([self.seed, self.epoch, reader])
        for key, parts, path in self._shuffled(order[reader::num_readers], random):
            record = decode_record(key, parts, str(path))
            yield flip_record(record, self.mirror) if self.mirror is not None and random.random() < 0.5 else record

    def _shuffled(self, order: np.ndarray, random: np.random.Generator) -> Iterator[tuple[str, dict[str, bytes], Path]]:
        held: list[tuple[str, dict[str, bytes], Path]] = []
        for shard_index in order:
            shard = read_shard(self.paths[shard_index])
            with shard.path.open("rb") as file:
                for key in shard.keys:
                    held.append((key, shard.parts(key, file), shard.path))
                    if len(held) >= self.buffer_size:
                        yield _draw(held, random)
        while held:
            yield _draw(held, random)


@dataclass(frozen=True)
class RecordBatch:
    """B records, stacked; the fields are those of `Record`, with `image` and `mask` still uint8."""

    keys: tuple[str, ...]
    image: Tensor
    mask: Tensor
    landmarks: Tensor
    camera: Tensor
    shape: Tensor
    expression: Tensor
    neck: Tensor
    jaw: Tensor
    eyes: Tensor
    code: Tensor


def collate(records: Sequence[Record]) -> RecordBatch:
    """Stacks records; to be passed to `torch.utils.data.DataLoader` as `collate_fn`."""
    names = [name for name in RecordBatch.__dataclass_fields__ if name != "keys"]
    stacked = {name: torch.from_numpy(np.stack([getattr(record, name) for record in records])) for name in names}
    return RecordBatch(tuple(record.key for record in records), **stacked)


def find_shards(paths: Paths) -> list[Path]:
    """Returns the shards that the paths name, those of a folder in the order of their names.

    Raises:
        InputError: a path does not exist or holds no shard.
    """
    found: list[Path] = []
    for path in map(Path, [paths] if isinstance(paths, (str, Path)) else paths):
        found += _listed(path) if path.suffix == ".txt" else _in_place(path)
    if not found:
        raise InputError("expected the path of a shard, a folder of shards or a .txt that lists them, got none")
    return found


def _listed(path: Path) -> list[Path]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a list of shards")
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected a list of shards as text in UTF-8, it is none: write it again") from error
    return [shard for line in lines if line and line[0] != "#" for shard in _in_place(path.parent / line)]


def _in_place(path: Path) -> list[Path]:
    if path.is_dir():
        shards = sorted(file for file in path.glob("*.tar") if not file.name.startswith("."))
        if not shards:
            raise InputError(f"{path}: expected a folder with shards (.tar), it holds none")
        return shards
    if path.suffix != ".tar" or not path.is_file():
        raise InputError(f"{path}: no such shard; expected a .tar or a folder of them")
    return [path]


def _common_info(shards: list[Shard]) -> DatasetInfo:
    first = shards[0]
    for shard in shards[1:]:
        mine, other = asdict(first.info), asdict(shard.info)
        parts = [f"{name} ({mine[name]!r} and {other[name]!r})" for name in mine if mine[name] != other[name]]
        if parts:
            raise InputError(
                f"expected shards of one kind, {first.path} and {shard.path} differ in {', '.join(parts)}: "
                "build them alike, or read them apart"
            )
    return first.info


def _refuse_code(info: DatasetInfo, mirror: HeadMirror | None) -> None:
    if info.code_size and mirror is not None:
        raise InputError(
            "a motion code cannot be mirrored: leave out the mirror, or build the dataset without the code"
        )


def _refuse_repeats(shards: list[Shard]) -> None:
    seen: dict[str, Path] = {}
    for shard in shards:
        for key in shard.keys:
            if key in seen:
                raise InputError(f"record {key} is in {seen[key]} and in {shard.path}: list it once")
            seen[key] = shard.path


def _draw(held: list, random: np.random.Generator) -> tuple[str, dict[str, bytes], Path]:
    """Removes and returns a random entry; the last one takes its place."""
    chosen = int(random.integers(len(held)))
    held[chosen], held[-1] = held[-1], held[chosen]
    return held.pop()
