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
from collections.abc import Callable, Collection, Mapping
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_MOST_INFLATION = 1032
"""Largest ratio of inflated to deflated bytes that the format permits."""

FREE_BYTES = 256 << 20
"""Bytes that the arrays of any file may take, however small it is."""

_MOST_HEADER_BYTES = 1 << 16

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Methods of compression that numpy uses."""

_DAMAGE = (
    OSError, EOFError, ValueError, TypeError, KeyError, NotImplementedError, SyntaxError, RecursionError, Warning,
    struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""Exceptions that the readers of zip and `.npy` raise for damaged bytes."""


class ArrayHeader(NamedTuple):
    """What an `.npy` file says of its array before the numbers come."""

    shape: tuple[int, ...]
    dtype: np.dtype
    is_fortran: bool

    @property
    def num_bytes(self) -> int:
        """Of the numbers."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_npz(
    path: Path,
    *,
    names: Collection[str] | None = None,
    check: Callable[[Mapping[str, ArrayHeader]], None] | None = None,
    most_inflation: float = _MOST_INFLATION,
) -> dict[str, NDArray]:
    """Returns the arrays of an `.npz` file by name; they hold numbers, booleans or text.

    Headers are read first: what is unknown or does not fit costs no memory.

    Args:
        path: the file.
        names: the arrays that are read; None for all.
        check: called with the headers of these arrays; raises ValueError for what is not wanted.
        most_inflation: bytes of all these arrays for each byte of the file, beyond `FREE_BYTES`.

    Raises:
        ValueError: the file cannot be read, is damaged, too large when inflated, or holds other arrays.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if sum(entry.file_size for entry in entries) > _MOST_INFLATION * path.stat().st_size:
                raise zipfile.BadZipFile("its header states more bytes than it can hold")
            if any(entry.compress_type not in _METHODS or entry.flag_bits & 1 for entry in entries):
                raise zipfile.BadZipFile("it is compressed in a way that numpy does not use")
            named = {
                entry.filename.removesuffix(".npy"): entry
                for entry in entries
                if entry.filename.endswith(".npy") and (names is None or entry.filename.removesuffix(".npy") in names)
            }
            headers = {name: _read_header(archive, entry) for name, entry in named.items()}
            total = sum(header.num_bytes for header in headers.values())
            most = FREE_BYTES + most_inflation * path.stat().st_size
            if total > most:
                raise ValueError(f"its arrays take {total} bytes, of which a file of its size may hold {most:.0f}")
            if check is not None:
                check(headers)
            return {name: _read_array(archive.read(entry)) for name, entry in named.items()}
    except _DAMAGE as error:
        raise ValueError(f"{path.name} is not an .npz file of numbers and text ({error})") from error


def _read_header(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> ArrayHeader:
    """Reads the header of an array, of which little more is inflated, and compares it with the size of the entry."""
    with archive.open(entry) as stream:
        start = BytesIO(stream.read(_MOST_HEADER_BYTES))
    header = _parse_header(start)
    if header.num_bytes != entry.file_size - start.tell():
        raise ValueError(
            f"expected {header.dtype} {header.shape}, got {entry.file_size - start.tell()} bytes in {entry.filename}"
        )
    return header


def _parse_header(stream: BytesIO) -> ArrayHeader:
    """Parses the header of the `.npy` format, behind which the stream then stands."""
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # numpy repairs damaged headers as if Python 2 had written them, with a warning
        shape, is_fortran, dtype = readers[np.lib.format.read_magic(stream)](stream)
    if dtype.kind not in "biufU" or min(shape, default=0) < 0:
        raise ValueError(f"expected an array of numbers or text, got {dtype} {shape}")
    return ArrayHeader(shape, dtype, is_fortran)


def _read_array(content: bytes) -> NDArray:
    """Reads an array of the `.npy` format; numpy's own reader allocates what a header states without checking it."""
    stream = BytesIO(content)
    header = _parse_header(stream)
    place = stream.tell()
    if header.num_bytes != len(content) - place:
        raise ValueError(f"expected {header.dtype} {header.shape}, got {len(content) - place} bytes")
    return np.ndarray(header.shape, header.dtype, content, place, order="F" if header.is_fortran else "C")
