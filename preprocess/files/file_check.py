"""Checks that an input file can be read, and that no output would overwrite an input.

Imports nothing heavy, so that readers of shards do not load torch.
"""

from collections.abc import Iterable
from pathlib import Path

from flame.errors import InputError


def check_file(path: Path, what: str) -> None:
    """Raises InputError unless `path` is a readable file that is not empty."""
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


def check_not_input(output: str | Path, *inputs: str | Path | None) -> None:
    """Raises InputError if `output` is one of the inputs; None counts as no input."""
    check_no_input_among([output], [path for path in inputs if path is not None])


def check_no_input_among(outputs: Iterable[str | Path], inputs: Iterable[str | Path]) -> None:
    """Raises InputError if any output is one of the inputs, even through a link or another spelling of its name."""
    read = {key for path in inputs for key in _identities(Path(path))}
    for output in outputs:
        if not read.isdisjoint(_identities(Path(output))):
            raise InputError(f"output {output} is one of the inputs: choose another name")


def _identities(path: Path) -> set[object]:
    """Returns what two names of one file share: the resolved name, and the device and number of an existing file."""
    try:
        name = path.resolve()
        status = name.stat() if name.exists() else None
    except OSError:  # a name that cannot be looked up names no file; opening it reports that
        return set()
    if status is None:
        return {name}
    return {name, (status.st_dev, status.st_ino)}
