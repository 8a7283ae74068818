"""Shards: the containers of a dataset's records.

After `dataset.json` a shard holds `KEY.image.png`, `KEY.mask.png`, `KEY.safetensors` and `KEY.json` of each record.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from numpy.typing import NDArray

from flame.errors import InputError
from preprocess.dataset.records.container import (
    INFO_NAME,
    Container,
    index_path,
    read_container,
    read_member,
    write_container,
)
from preprocess.dataset.records.record import DatasetInfo, Record
from preprocess.dataset.records.record_codec import (
    MEMBER_NAMES,
    ImageFormat,
    check_record,
    decode_arrays,
    decode_info,
    decode_record,
    encode_info,
    encode_record,
)  # fmt: skip
from preprocess.files.digest import file_digest


@dataclass(frozen=True)
class Shard(Container):
    """What is known about a shard without reading its records.

    Attributes:
        info: what its records share.
    """

    info: DatasetInfo

    def __iter__(self) -> Iterator[Record]:
        with self.path.open("rb") as file:
            for key in self.keys:
                yield self.read(key, file)

    def read(self, key: str, file: BinaryIO) -> Record:
        """Reads one record from the opened tar, and checks it against the index where there is one."""
        return decode_record(key, self.parts(key, file), str(self.path))

    def parts(self, key: str, file: BinaryIO, *, only: Sequence[str] = MEMBER_NAMES) -> dict[str, bytes]:
        """Reads a record's members, or some of them, still encoded, for `decode_record`."""
        return self.members_of(key, file, only)

    def cameras(self) -> list[NDArray]:
        """Returns the camera labels `[25]` of all records; no picture is decoded."""
        labels = []
        with self.path.open("rb") as file:
            for key in self.keys:
                where = f"{self.path}: {key}.safetensors"
                if f"{key}.safetensors" not in self.members:
                    raise InputError(f"{where}: the member is missing: build the shard again")
                labels.append(
                    decode_arrays(read_member(file, self.members[f"{key}.safetensors"], where), where)["camera"]
                )
        return labels


def write_shard(
    path: Path | str, info: DatasetInfo, records: Iterable[Record], *, image_format: ImageFormat = "png"
) -> int:
    """Writes records, one at a time, then the index, which marks a finished shard; returns how many there were.

    Args:
        path: ends in `.tar`.
        info: what the records share.
        records: in the order of the shard.
        image_format: "png", or "jpg" (quality 95, a third of the size, not exact).

    Raises:
        InputError: the path cannot be written.
        ValueError: a record does not fit the description, or two have the same key.
    """

    def encoded() -> Iterator[tuple[str, dict[str, bytes]]]:
        for record in records:
            check_record(record, info)
            yield record.key, encode_record(record, image_format)

    return write_encoded(path, info, encoded())


def write_encoded(path: Path | str, info: DatasetInfo, records: Iterable[tuple[str, dict[str, bytes]]]) -> int:
    """Writes a shard of keys and encoded members, as `Shard.parts` returns them, byte for byte; see `write_shard`."""
    return write_container(path, encode_info(info), records)


def read_shard(path: Path | str) -> Shard:
    """Reads what is known about a shard from its index, or by a scan of the tar where there is none.

    Raises:
        InputError: it is no shard, cut off, or of another version, or its index belongs to another shard.
    """
    container = read_container(path)
    info = decode_info(container.description(), f"{container.path}: {INFO_NAME}")
    return Shard(container.path, container.keys, container.members, container.sha256, info)


def verify_shard(path: Path | str) -> Shard:
    """Reads a whole shard and compares it with its index.

    Raises:
        InputError: a member is damaged, and the message names the first; or there is no index.
    """
    shard = read_shard(path)
    if shard.sha256 is None:
        raise InputError(f"{shard.path}: expected {index_path(shard.path).name} beside it to verify it: build it again")
    with shard.path.open("rb") as file:
        for name, member in shard.members.items():
            read_member(file, member, f"{shard.path}: {name}")
    for _ in shard:
        pass
    if file_digest(shard.path) != shard.sha256:
        raise InputError(f"{shard.path}: the bytes between its members differ from the index: build the shard again")
    return shard
