"""SHA-256 digests of what a dataset is made of: input files, weights and head models."""

import hashlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from flame.errors import InputError

if TYPE_CHECKING:
    from flame.heads.head_model import HeadModel

_CHUNK = 1 << 20


def file_digest(path: Path, *, told: Callable[[int], None] | None = None) -> str:
    """Returns the SHA-256 of a file's content, in hexadecimal.

    Args:
        path: the file.
        told: called after each block with the number of bytes read so far.
    """
    digest, done = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_CHUNK):
            digest.update(block)
            done += len(block)
            if told is not None:
                told(done)
    return digest.hexdigest()


def weights_digest(path: Path) -> str:
    """Returns the digest of a file of weights, or of all files in a folder of them.

    Raises:
        InputError: the path does not exist or cannot be read.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file; expected weights")
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    try:
        parts = [file_digest(file) for file in files]
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected weights") from error
    return parts[0] if path.is_file() else hashlib.sha256("".join(parts).encode()).hexdigest()


def flame_digest(path: Path) -> str:
    """Returns the digest of the head that a FLAME file gives, with the landmarks and regions found beside the file.

    It does not depend on how the head is stored.

    Raises:
        InputError: under the conditions of `flame.heads.flame.load_flame`.
    """
    status = path.stat() if path.is_file() else None
    return _flame_digest(path, None if status is None else (status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=8)
def _flame_digest(path: Path, mark: tuple[int, int] | None) -> str:
    from flame.heads.flame import load_flame  # loads torch, which datasets of the open head do not need

    return head_digest(load_flame(path))


def head_digest(model: "HeadModel") -> str:
    """Returns the digest of a head model's tables, landmarks and regions."""
    digest = hashlib.sha256()
    for name, table in sorted(model.named_buffers()):
        digest.update(f"{name} {table.dtype} {list(table.shape)}\n".encode())
        digest.update(table.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
