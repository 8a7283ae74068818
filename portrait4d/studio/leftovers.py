"""The folders of sessions, and what servers that were killed left of them."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

PREFIX = f"portrait4d-studio-{os.getpid()}-"

_NAME = re.compile(r"portrait4d-studio-(\d+)-\w+")


def remove_leftovers() -> None:
    """Removes this user's folders of servers that no longer run."""
    if os.name == "nt":
        return  # signal 0 would end a process there
    for path in Path(tempfile.gettempdir()).glob("portrait4d-studio-*"):
        match = _NAME.fullmatch(path.name)
        if match is None or path.is_symlink() or not path.is_dir() or path.stat().st_uid != os.getuid():
            continue
        try:
            os.kill(int(match[1]), 0)
        except ProcessLookupError:
            shutil.rmtree(path, ignore_errors=True)
        except (PermissionError, OverflowError):  # someone else's process, or no number of one
            continue
