"""Whether a file is there to be read, and none that is read would be written over.

Needs nothing else, so that readers of shards load no torch.
"""

from collections.abc import Iterable
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


def check_not_input(output: str | Path, *inputs: str | Path | None) -> None:
    """Raise InputError if `output` is one of the inputs; None is no input."""
    check_no_input_among([output], [path for path in inputs if path is not None])


def check_no_input_among(outputs: Iterable[str | Path], inputs: Iterable[str | Path]) -> None:
    """Raise InputError if any output is one of the inputs, also by a link or another spelling of its name."""
    read = {key for path in inputs for key in _identities(Path(path))}
    for output in outputs:
        if not read.isdisjoint(_identities(Path(output))):
            raise InputError(f"output {output} is one of the inputs: choose another name")


def _identities(path: Path) -> set[object]:
    """What two names of one file have in common: the resolved name, or device and number."""
    try:
        name = path.resolve()
        status = name.stat() if name.exists() else None
    except OSError:  # a name that cannot be looked up names no file; whoever opens it says so
        return set()
    if status is None:
        return {name}
    return {name, (status.st_dev, status.st_ino)}
