"""SHA-256 of what a dataset is made of: input files, weights, head models."""

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
    """Of a file's content, hexadecimal.

    Args:
        told: how many bytes are done, again and again.
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
    """Of a file of weights, or of all files in a folder of them.

    Raises:
        InputError: nothing is there, or it cannot be read.
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
    """Of a FLAME file's tables and the landmarks and regions found beside it: of the head, not of how it is stored.

    Raises:
        InputError: as `flame.heads.flame.load_flame` does.
    """
    status = path.stat() if path.is_file() else None
    return _flame_digest(path, None if status is None else (status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=8)
def _flame_digest(path: Path, mark: tuple[int, int] | None) -> str:
    from flame.heads.flame import load_flame  # loads torch, which datasets of the open head need not

    return head_digest(load_flame(path))


def head_digest(model: "HeadModel") -> str:
    """Of a head model's tables, landmarks and regions."""
    digest = hashlib.sha256()
    for name, table in sorted(model.named_buffers()):
        digest.update(f"{name} {table.dtype} {list(table.shape)}\n".encode())
        digest.update(table.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
