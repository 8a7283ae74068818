"""Containers: plain tar files in the layout of WebDataset, a description first, with an index beside them.

A container holds `dataset.json`, then the members `KEY.SUFFIX` of each record; what they are is the format's that uses
it: `shards`, or another. The same members make the same bytes. `NAME.tar.index.json` lists offset, size and SHA-256 of
every member and the SHA-256 of the whole. Without it a container is read by a scan, and damage is found only where a
decoder fails.
"""

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from flame.errors import InputError, brief, printable
from preprocess.files.atomic import atomic_path
from preprocess.files.digest import file_digest
from preprocess.files.file_check import check_file

INFO_NAME = "dataset.json"
INDEX_SUFFIX = ".index.json"
_INDEX_FORMAT = "portrait4d-shard-index"
_INDEX_VERSION = 1
_KEY = re.compile(r"[A-Za-z0-9_-]{1,80}")  # no dot: WebDataset splits names at the first one; tar ends at 100 bytes


@dataclass(frozen=True)
class Member:
    """The place of a member's content in the tar; `sha256` is None where there is no index."""

    offset: int
    size: int
    sha256: str | None


@dataclass(frozen=True)
class Container:
    """What is known about a container without reading its records; holds no open file.

    Attributes:
        path: of the tar.
        keys: of the records, in their order.
        members: by name.
        sha256: of the whole tar; None without an index.
    """

    path: Path
    keys: tuple[str, ...]
    members: dict[str, Member]
    sha256: str | None

    def __len__(self) -> int:
        return len(self.keys)

    def members_of(self, key: str, file: BinaryIO, only: Sequence[str]) -> dict[str, bytes]:
        """Reads those of a record's members that are named and there, by the ending of their name."""
        found = {name: self.members[f"{key}.{name}"] for name in only if f"{key}.{name}" in self.members}
        return {name: read_member(file, member, f"{self.path}: {key}.{name}") for name, member in found.items()}

    def description(self) -> bytes:
        """Reads the first member."""
        with self.path.open("rb") as file:
            return read_member(file, self.members[INFO_NAME], f"{self.path}: {INFO_NAME}")


def write_container(path: Path | str, description: bytes, records: Iterable[tuple[str, dict[str, bytes]]]) -> int:
    """Writes records, one at a time, then the index, which marks a finished container; returns how many there were.

    Args:
        path: ends in `.tar`.
        description: the first member.
        records: keys, and members by the ending of their name.

    Raises:
        InputError: the path cannot be written.
        ValueError: two records have the same key, or a key has other signs than letters, digits, - and _.
    """
    path = Path(path)
    if path.suffix != ".tar":
        raise InputError(f"expected the name of a shard to end in .tar, got {path.name}")
    index_path(path).unlink(missing_ok=True)  # an index must never describe another shard
    keys: set[str] = set()
    with atomic_path(path) as temporary:
        members: dict[str, Member] = {}
        with temporary.open("wb") as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            _add(tar, INFO_NAME, description, members)
            for key, parts in records:
                if key in keys or not _KEY.fullmatch(key):
                    raise ValueError(f"expected a new key of letters, digits, - and _, got {key!r}")
                keys.add(key)
                for suffix, content in parts.items():
                    _add(tar, f"{key}.{suffix}", content, members)
        digest = file_digest(temporary)
    _write_index(path, members, digest)
    return len(keys)


def read_container(path: Path | str) -> Container:
    """Reads what is known about a container from its index, or by a scan of the tar where there is none.

    Raises:
        InputError: it is no container, or cut off, or its index belongs to another.
    """
    path = Path(path)
    check_file(path, "a shard")
    if index_path(path).is_file():
        members, digest = _read_index(path)
    else:
        members, digest = _scan(path), None
    if next(iter(members), None) != INFO_NAME:
        raise InputError(
            f"{path}: expected a shard that begins with {INFO_NAME}, got another tar: give a built dataset"
        )
    keys = tuple(dict.fromkeys(name.partition(".")[0] for name in list(members)[1:]))
    if strange := next((key for key in keys if not _KEY.fullmatch(key)), None):
        name = printable(strange[:100])
        raise InputError(f"{path}: expected keys of letters, digits, - and _, got {name}: build or copy it again")
    return Container(path, keys, members, digest)


def index_path(path: Path) -> Path:
    """Returns the path of the index beside a shard."""
    return path.with_name(path.name + INDEX_SUFFIX)


def _add(tar: tarfile.TarFile, name: str, content: bytes, members: dict[str, Member]) -> None:
    header = tarfile.TarInfo(name)  # time, owner and group are 0, rights 0644
    header.size = len(content)
    offset = tar.offset + tarfile.BLOCKSIZE
    tar.addfile(header, io.BytesIO(content))
    members[name] = Member(offset, len(content), hashlib.sha256(content).hexdigest())


def read_member(file: BinaryIO, member: Member, where: str) -> bytes:
    """Reads a member from the opened tar, and compares it with the index where there is one."""
    file.seek(member.offset)
    content = file.read(member.size)
    if len(content) != member.size:
        raise InputError(f"{where}: expected {member.size} bytes, the shard is cut off: build or copy it again")
    if member.sha256 is not None and hashlib.sha256(content).hexdigest() != member.sha256:
        raise InputError(f"{where}: its bytes differ from the index, the shard is damaged: build or copy it again")
    return content


def _write_index(path: Path, members: dict[str, Member], digest: str) -> None:
    listed = [[name, member.offset, member.size, member.sha256] for name, member in members.items()]
    values = {
        "format": _INDEX_FORMAT, "version": _INDEX_VERSION, "size": path.stat().st_size, "sha256": digest,
        "members": listed,
    }  # fmt: skip
    with atomic_path(index_path(path)) as temporary:
        temporary.write_text(json.dumps(values, separators=(",", ":")) + "\n")


def _read_index(path: Path) -> tuple[dict[str, Member], str]:
    index = index_path(path)
    try:
        values = json.loads(index.read_bytes())
        if (values["format"], values["version"]) != (_INDEX_FORMAT, _INDEX_VERSION):
            found = brief(values["version"])
            raise InputError(f"{index}: expected an index of version {_INDEX_VERSION}, got {found}: build it again")
        size, digest = int(values["size"]), str(values["sha256"])
        members = {
            str(name): Member(int(offset), int(count), str(sha256)) for name, offset, count, sha256 in values["members"]
        }
        if any(member.offset < 0 or not 0 <= member.size <= size for member in members.values()):
            raise ValueError("a member outside")
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError, AttributeError) as error:
        raise InputError(f"{index} is damaged: delete it to read the shard by a scan, or build it again") from error
    found = path.stat().st_size
    if found != size:
        raise InputError(f"{path}: expected {size} bytes as its index says, got {found}: build or copy it again")
    return members, digest


def _scan(path: Path) -> dict[str, Member]:
    members: dict[str, Member] = {}
    try:
        with tarfile.open(path, mode="r:") as tar:
            for header in tar:
                if not header.isreg() or header.name in members:
                    raise InputError(f"{path}: expected plain members named once, got {printable(header.name)!r}")
                members[header.name] = Member(header.offset_data, header.size, None)
            end = tar.offset
    except (tarfile.TarError, EOFError) as error:
        last = printable(next(reversed(members), "its start"))
        raise InputError(f"{path}: not a whole tar (damaged after {last}): build or copy it again") from error
    # tarfile accepts a file that ends between two members as whole
    if path.stat().st_size < end + tarfile.BLOCKSIZE:
        last = printable(next(reversed(members), "its start"))
        raise InputError(f"{path}: the shard is cut off after {last}: build or copy it again")
    return members
