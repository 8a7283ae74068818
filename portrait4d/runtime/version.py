"""The version of this program."""

from preprocess.files.program import version

__all__ = ["version"]
