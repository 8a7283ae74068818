"""Reads the arrays of an `.npz` file that may be damaged or malicious.

It reads no pickle, and takes no more memory than the file's bytes can fill. Files of head models, which also hold
pickled objects, are for `flame.pickles.numbers`.
"""

import math
import struct
import tokenize
import warnings
import zipfile
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_MOST_INFLATION = 1032
"""Largest ratio of inflated to deflated bytes that the format permits."""

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Methods of compression that numpy uses."""

_DAMAGE = (
    OSError, EOFError, ValueError, TypeError, KeyError, NotImplementedError, SyntaxError, RecursionError, Warning,
    struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""Exceptions that the readers of zip and `.npy` raise for damaged bytes."""


def read_npz(path: Path) -> dict[str, NDArray]:
    """Returns the arrays of an `.npz` file by name; they hold numbers, booleans or text.

    Raises:
        ValueError: the file cannot be read, is damaged, or holds other arrays.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if sum(entry.file_size for entry in entries) > _MOST_INFLATION * path.stat().st_size:
                raise zipfile.BadZipFile("its header states more bytes than it can hold")
            if any(entry.compress_type not in _METHODS or entry.flag_bits & 1 for entry in entries):
                raise zipfile.BadZipFile("it is compressed in a way that numpy does not use")
            named = [entry for entry in entries if entry.filename.endswith(".npy")]
            return {entry.filename.removesuffix(".npy"): _read_array(archive.read(entry)) for entry in named}
    except _DAMAGE as error:
        raise ValueError(f"{path.name} is not an .npz file of numbers and text ({error})") from error


def _read_array(content: bytes) -> NDArray:
    """Reads an array of the `.npy` format; numpy's own reader allocates what a header states without checking it."""
    stream = BytesIO(content)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # numpy repairs damaged headers as if Python 2 had written them, with a warning
        shape, is_fortran, dtype = readers[np.lib.format.read_magic(stream)](stream)
    if dtype.kind not in "biufU" or min(shape, default=0) < 0:
        raise ValueError(f"expected an array of numbers or text, got {dtype} {shape}")
    place = stream.tell()
    if math.prod(shape) * dtype.itemsize != len(content) - place:
        raise ValueError(f"expected {dtype} {shape}, got {len(content) - place} bytes")
    return np.ndarray(shape, dtype, content, place, order="F" if is_fortran else "C")
