"""Whether a file is there to be read; needs nothing else, so that readers of shards load no torch."""

from pathlib import Path

from flame.errors import InputError


def check_file(path: Path, what: str) -> None:
    """Raise InputError unless `path` is a readable file that is not empty."""
    if path.is_dir():
        raise InputError(f"{path} is a folder: expected {what}")
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected {what}")
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise InputError(f"{path}: the file is empty; expected {what}")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected {what}") from error
