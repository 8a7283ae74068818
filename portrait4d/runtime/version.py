"""The version of this program."""

from importlib import metadata


def version() -> str:
    """The version of the installed distribution; "0+checkout" where none is installed."""
    try:
        return metadata.version("portrait4d")
    except metadata.PackageNotFoundError:
        return "0+checkout"
