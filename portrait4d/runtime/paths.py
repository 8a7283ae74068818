"""File names: what a suffix means, and checks of inputs and outputs before any work is done."""

import os
import tempfile
from pathlib import Path

from flame.errors import InputError
from preprocess.files.atomic_folder import check_replaceable
from preprocess.media.encodings import FRAME_NAME, SUFFIXES

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})

VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".gif", ".apng"})

MOTION_SUFFIXES = frozenset({".npz"})

BLENDSHAPE_SUFFIXES = frozenset({".csv"})
"""Tables of blendshapes, which drive as motion files do; in a folder, a table may be anything."""
PARAMETER_SUFFIXES = frozenset({".csv", ".npz"})

AVATAR_SUFFIXES = frozenset({".safetensors"})

MESH_SUFFIXES = frozenset({".glb", ".ply", ".obj"})


def is_motion_file(path: Path) -> bool:
    """Whether the name is that of a motion file, a driver tracked before, or of a table of blendshapes."""
    return path.suffix.lower() in MOTION_SUFFIXES | BLENDSHAPE_SUFFIXES


def is_avatar_file(path: Path) -> bool:
    """Whether the name is that of an avatar file, a source built before."""
    return path.suffix.lower() in AVATAR_SUFFIXES


FOLDER = ""
"""The suffix of a result that is a folder of numbered pictures."""

MOVING_SUFFIXES = frozenset({*SUFFIXES, FOLDER})
"""Suffixes of results that move: videos, animations and folders of pictures."""

_MAX_NAME_BYTES = 250
"""File systems allow 255; a batch adds `.json` for its record."""


def require_file(path: Path, role: str, *, folder_allowed: bool = False) -> Path:
    """The path itself if it exists.

    Raises:
        InputError: it does not exist, or is a folder where a file is expected.
    """
    if path.is_file() or (folder_allowed and path.is_dir()):
        return path
    if path.is_dir():
        raise InputError(f"expected a file as {role}, got the folder {path}: name one file")
    raise InputError(f"{role} not found: {path}: check the name and the folder")


def check_output(path: Path, suffixes: frozenset[str]) -> None:
    """Refuses an output whose suffix or name cannot be written, or whose folder, before any work is done."""
    if (length := len(os.fsencode(path.name))) > _MAX_NAME_BYTES:
        raise InputError(
            f"expected an output name of at most {_MAX_NAME_BYTES} bytes, got {length}: shorten {path.name[:40]}..."
        )
    if path.suffix.lower() not in suffixes:
        got = path.suffix or "no suffix"
        folder = ", or a folder name without a suffix" if FOLDER in suffixes else ""
        raise InputError(
            f"expected an output name ending in {', '.join(sorted(suffixes - {FOLDER}))}{folder}, got {got}: "
            f"rename {path.name}"
        )
    if path.suffix == FOLDER:
        check_replaceable(path, FRAME_NAME)
    elif path.is_dir():
        raise InputError(f"expected a file name as output, got the folder {path}: add a name like result.mp4")
    _check_folder(path.parent)


def _check_folder(folder: Path) -> None:
    """Refuses a folder in which no file can be made; of a missing one, the nearest that exists."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = "it is a file" if folder.is_file() else error.strerror
        raise InputError(f"cannot write to the folder {folder} ({reason}): choose another output") from error
