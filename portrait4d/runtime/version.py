"""The version of this program."""

from importlib import metadata


def version() -> str:
    """The installed distribution's version; "0+checkout" where nothing is installed."""
    try:
        return metadata.version("portrait4d")
    except metadata.PackageNotFoundError:
        return "0+checkout"
