"""Explains a full disk in the words of the one who chose the output."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flame.errors import InputError


@contextmanager
def explain_full_disk(path: Path) -> Iterator[None]:
    """Turns the error of a full disk in the block into an InputError that names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise InputError(f"{path}: the disk is full; make room or choose another output") from error
        raise
