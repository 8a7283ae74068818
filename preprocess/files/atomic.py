"""Writes a file so that it is either whole or absent: a hidden temporary file beside it, renamed at the end."""

import hashlib
import itertools
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flame.errors import InputError

_MAX_NAME_BYTES = 180  # file systems allow 255; the temporary name adds a prefix and a suffix
_counter = itertools.count()
_open_paths: set[Path] = set()
_lock = threading.Lock()


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path to write to, and renames it to `path` when the block ends without an exception.

    The temporary file lies in the same folder, is hidden, and keeps the suffix of `path`, so that writers that choose
    their format by suffix work. It is removed when the block raises, also on Ctrl-C. After a hard kill it stays behind
    until the next writer of the same `path` removes it. Missing parent folders are made.

    Raises:
        InputError: `path` is a folder, or its folder cannot be written to.
    """
    temporary = begin_atomic(path)
    try:
        yield temporary
        commit_atomic(temporary, path)
    finally:
        abort_atomic(temporary)


def begin_atomic(path: str | Path) -> Path:
    """Returns a temporary path for `path`, and removes what killed writers of `path` left behind."""
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder: give the name of a file to write")
    folder = path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}; choose another output") from error
    if not os.access(folder, os.W_OK):
        raise InputError(f"cannot write to the folder {folder}: choose another output")
    stem = hidden_prefix(path.stem)
    with _lock:
        _remove_leftovers(folder, stem, path.suffix)
        temporary = folder / f"{stem}{os.getpid()}-{next(_counter)}.partial{path.suffix}"
        _open_paths.add(temporary)
    return temporary


def commit_atomic(temporary: Path, path: str | Path) -> None:
    """Gives the finished temporary file its final name."""
    os.replace(temporary, path)
    with _lock:
        _open_paths.discard(temporary)


def abort_atomic(temporary: Path) -> None:
    """Removes the temporary file if it is still there."""
    temporary.unlink(missing_ok=True)
    with _lock:
        _open_paths.discard(temporary)


def hidden_prefix(name: str) -> str:
    """Returns the start of a hidden neighbour's name, `.NAME.`; a digest replaces a name that is too long."""
    if len(name.encode()) > _MAX_NAME_BYTES:
        name = hashlib.sha256(name.encode()).hexdigest()
    return f".{name}."


def _remove_leftovers(folder: Path, stem: str, suffix: str) -> None:
    """Removes temporary files whose writing process has ended."""
    pattern = re.compile(re.escape(stem) + r"(\d+)-\d+\.partial" + re.escape(suffix))
    for name in os.listdir(folder):
        match = pattern.fullmatch(name)
        if match is None or folder / name in _open_paths:
            continue
        process = int(match[1])
        if process == os.getpid() or not is_running(process):
            try:
                (folder / name).unlink(missing_ok=True)
            except PermissionError:  # Windows: still open in a running process
                continue


def is_running(process: int) -> bool:
    """Whether a process with this number may still run."""
    if os.name == "nt":
        return False  # signal 0 would end the process there; an open file cannot be removed anyway
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
