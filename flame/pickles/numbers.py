"""Reads numbers from pickles, `.npy` and `.npz` files without running anything in them.

A pickle is a program; this reader lets it build numbers, text, lists, tuples, dicts, numpy arrays, scipy sparse
matrices and the arrays inside chumpy objects, all through our own stand-ins. Any other name in the file is refused.
"""

import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from flame.errors import InputError
from flame.pickles.arrays import numpy_stand_ins
from flame.pickles.bounded_bytes import BoundedBytes
from flame.pickles.machine import PickleMachine
from flame.pickles.objects import PickledObject, Resolver, StandIn, pairs_to_dict

MAX_BYTES = 2**30
"""Larger files are refused: no head model comes near a gigabyte."""

_MAX_DENSE_ENTRIES = 10**8


def read_numbers(path: Path) -> Any:
    """Returns the content of a pickle, `.npy` or `.npz` file: dicts, lists and numpy arrays.

    Raises:
        InputError: the file is missing, too large, damaged, or holds more than numbers.
    """
    if not path.is_file():
        raise InputError(f"expected a file at {path}, there is none: check the path")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path.name} is larger than {MAX_BYTES >> 20} MB: not a head model file")
    data = path.read_bytes()
    try:
        if data[:6] == b"\x93NUMPY":
            return _read_npy(data, path.name)
        if data[:4] == b"PK\x03\x04":
            return _read_npz(data, path.name)
        return read_pickle(data, path.name)
    except InputError:
        raise
    except RecursionError:
        raise InputError(f"{path.name} is nested too deeply: not a head model file") from None
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, OverflowError, MemoryError) as error:
        raise InputError(f"{path.name} cannot be read ({error}): get the file again") from error
    except zipfile.BadZipFile as error:
        raise InputError(f"{path.name} is damaged ({error}): get the file again") from error


def read_pickle(data: bytes, name: str) -> Any:
    """Returns the numbers in pickled bytes; `name` is for messages."""
    return Resolver(name)(PickleMachine(BoundedBytes(data, name), find=_find).load())


class _Attributes(PickledObject):
    """Stands in for an object that is only its attributes."""

    def __init__(self, *arguments: Any) -> None:
        del arguments  # the class itself is never built from them
        self._state: dict = {}

    def set_state(self, state: Any) -> None:
        """Keeps the attributes."""
        if isinstance(state, tuple):
            state = next((part for part in state if isinstance(part, dict)), {})
        if isinstance(state, dict):
            self._state = state


class _Sparse(_Attributes):
    """Stands in for a scipy sparse matrix."""

    def resolve(self, resolve: Callable[[Any], Any]) -> np.ndarray:
        """Returns the dense matrix."""
        return _dense({key: resolve(item) for key, item in self._state.items()})


class _Chumpy(_Attributes):
    """Stands in for a chumpy object."""

    def resolve(self, resolve: Callable[[Any], Any]) -> Any:
        """Returns the numbers of an array node, kept under `x`; other nodes are formulas and are not evaluated."""
        return resolve(self._state.get("x"))


def _find(module: str, name: str) -> StandIn | None:
    """Returns our stand-in for a name in a pickle, or None if the name is refused."""
    path = f"{module}.{name}"
    if (module, name) in (arrays := numpy_stand_ins()):
        return arrays[module, name]
    if re.fullmatch(r"copy_?reg\._reconstructor", path):
        return StandIn(path, _reconstructor)
    if path in ("__builtin__.object", "builtins.object"):
        return StandIn(path, _Attributes)
    if path == "collections.OrderedDict":
        return StandIn(path, pairs_to_dict)
    if re.fullmatch(r"scipy\.sparse(\.\w+)*", module) and re.fullmatch(r"(csc|csr|coo)_(matrix|array)", name):
        return StandIn(path, _Sparse)
    if re.fullmatch(r"chumpy(\.\w+)*", module):
        return StandIn(path, _Chumpy)
    return None


def _reconstructor(kind: Any, base: Any = None, state: Any = None) -> Any:
    del base, state
    if not (isinstance(kind, StandIn) and kind.call in (_Sparse, _Chumpy)):
        raise InputError("unexpected object in the file: only numbers and arrays are read")
    return kind.call()


def _dense(state: dict) -> np.ndarray:
    """Makes a dense array of a sparse matrix's attributes."""
    shape = tuple(int(length) for length in state.get("_shape", state.get("shape", ())))
    if len(shape) != 2 or min(shape) < 0 or shape[0] * shape[1] > _MAX_DENSE_ENTRIES:
        raise InputError(f"sparse matrix of shape {shape} in the file: expected two small dimensions")
    data = np.asarray(state["data"])
    result = np.zeros(shape, dtype=np.result_type(data, np.float64))
    if "indptr" in state:
        starts, inner = np.asarray(state["indptr"]).astype(np.int64), np.asarray(state["indices"])
        if (np.diff(starts) < 0).any() or starts[0] != 0 or not starts[-1] == len(inner) == len(data):
            raise InputError("sparse matrix with inconsistent indices in the file: get the file again")
        is_columns = len(starts) == shape[1] + 1  # a square matrix fits both ways, and the wrong one transposes it
        if shape[0] == shape[1] or not (is_columns or len(starts) == shape[0] + 1):
            raise InputError(f"sparse matrix of shape {shape} with {len(starts)} starts in the file: cannot be read")
        outer = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        rows, columns = (inner, outer) if is_columns else (outer, inner)
    else:
        rows, columns = state["coords"] if "coords" in state else (state["row"], state["col"])
    np.add.at(result, (rows, columns), data)
    return result


def _read_npy(data: bytes, name: str) -> Any:
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = reader(stream)
    if dtype.hasobject:
        content = read_pickle(data[stream.tell() :], name)
        return content[()] if isinstance(content, np.ndarray) and content.shape == () else content
    count = int(np.prod(shape, dtype=np.int64))
    array = np.frombuffer(data, dtype, count=count, offset=stream.tell())
    return array.reshape(shape, order="F" if is_fortran else "C")


def _read_npz(data: bytes, name: str) -> dict[str, Any]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > MAX_BYTES:
            raise InputError(f"{name} unpacks to more than {MAX_BYTES >> 20} MB: not a head model file")
        return {
            member.filename.removesuffix(".npy"): _read_npy(archive.read(member), f"{name}:{member.filename}")
            for member in members
        }
