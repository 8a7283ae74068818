"""Writes a folder so that it is either whole or absent: a hidden temporary folder beside it, renamed at the end."""

import itertools
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flame.errors import InputError
from preprocess.files.atomic import hidden_prefix, is_running

_counter = itertools.count()


def check_replaceable(path: Path, own_name: re.Pattern[str]) -> None:
    """Refuses a folder that holds anything but what an earlier run wrote.

    Args:
        path: the folder that is to be written; it need not exist.
        own_name: matches the whole name of each file that such a run writes.

    Raises:
        InputError: it is a file, or holds a file of another name.
    """
    if path.is_file():
        raise InputError(f"expected the name of a folder to write, got the file {path}: choose another name")
    if not path.is_dir():
        return
    other = next((entry.name for entry in path.iterdir() if own_name.fullmatch(entry.name) is None), None)
    if other is not None:
        raise InputError(
            f"expected a new folder, or one with numbered frames alone, got {path} with {other}: choose another name"
        )


@contextmanager
def atomic_folder(path: Path, own_name: re.Pattern[str]) -> Iterator[Path]:
    """Yields a temporary folder, which takes the place of `path` when the block ends without an exception.

    It is removed when the block raises, also on Ctrl-C. After a hard kill it stays behind until the next writer of the
    same `path` removes it. Missing parent folders are made.

    Raises:
        InputError: as `check_replaceable`, or the parent folder cannot be written to.
    """
    check_replaceable(path, own_name)
    prefix = hidden_prefix(path.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path.parent, prefix)
        temporary = path.parent / f"{prefix}{os.getpid()}-{next(_counter)}.partial"
        temporary.mkdir()
    except OSError as error:
        raise InputError(
            f"cannot write to the folder {path.parent}: {error.strerror}; choose another output"
        ) from error
    try:
        yield temporary
        check_replaceable(path, own_name)
        if path.is_dir():
            shutil.rmtree(path)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _remove_leftovers(parent: Path, prefix: str) -> None:
    """Removes temporary folders whose writing process has ended."""
    pattern = re.compile(re.escape(prefix) + r"(\d+)-\d+\.partial")
    for name in os.listdir(parent):
        match = pattern.fullmatch(name)
        if match is not None and (parent / name).is_dir() and not is_running(int(match[1])):
            shutil.rmtree(parent / name, ignore_errors=True)
