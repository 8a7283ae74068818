"""Name and version of this program, as files name their maker."""

from functools import lru_cache
from importlib import metadata

NAME = "portrait4d"


@lru_cache(maxsize=1)
def version() -> str:
    """The version of the installed distribution; "0+checkout" where none is installed."""
    try:
        return metadata.version(NAME)
    except metadata.PackageNotFoundError:
        return "0+checkout"
