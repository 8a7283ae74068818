"""Reads numbers out of pickles, `.npy` and `.npz` files without running anything in them.

A pickle is a program; this reader lets it build numbers, text, lists, tuples, dicts, numpy arrays, scipy sparse
matrices and the arrays inside chumpy objects, all through stand-ins of our own. Any other name in the file is refused.
"""

import io
import pickle
import pickletools
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from flame.errors import InputError

MAX_BYTES = 2**30
"""No head model comes near a gigabyte."""

_MAX_DENSE_ENTRIES = 10**8
_MAX_DEPTH = 50

_OPCODES = frozenset(
    (
        "PROTO FRAME STOP MARK POP POP_MARK DUP INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT "
        "NONE NEWTRUE NEWFALSE STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 "
        "UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE "
        "TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM SETITEMS GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT "
        "MEMOIZE GLOBAL STACK_GLOBAL REDUCE NEWOBJ BUILD "
    ).split()
)


def read_numbers(path: Path) -> Any:
    """The content of a pickle, `.npy` or `.npz` file: dicts, lists and numpy arrays.

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
    except (pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise InputError(f"{path.name} is damaged ({error}): get the file again") from error


def read_pickle(data: bytes, name: str) -> Any:
    """The numbers in pickled bytes; `name` is for messages."""
    count = 0
    for opcode, argument, _ in pickletools.genops(data):
        count += 1
        if opcode.name not in _OPCODES:
            raise InputError(f"{name} uses the pickle instruction {opcode.name}: only numbers and arrays are read")
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > count:
            raise InputError(f"{name} is not an honest pickle (memo index {argument}): get the file again")
    return _resolve(_Unpickler(io.BytesIO(data), name).load(), {})


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, name: str) -> None:
        super().__init__(file, encoding="latin1")
        self._name = name

    def find_class(self, module: str, name: str) -> Any:  # noqa: D102
        stand_in = _stand_in(module, name)
        if stand_in is None:
            raise InputError(
                f"{self._name} asks for {module}.{name}, which is not a number or an array: refused, nothing was run"
            )
        return stand_in

    def persistent_load(self, pid: Any) -> Any:  # noqa: D102
        raise InputError(f"{self._name} refers to an outside object {pid!r}: refused")


class _DType:
    """Stands in for `numpy.dtype`."""

    def __init__(self, code: str, align: Any = False, copy: Any = True) -> None:
        del align, copy
        if not re.fullmatch(r"[biufcSUO]\d{0,6}|[?]", str(code)):
            raise InputError(f"array of type {code!r} in the file: only plain numbers are read")
        self.dtype = np.dtype(str(code))

    def __setstate__(self, state: Any) -> None:
        if len(state) > 3 and (state[2] is not None or state[3] is not None):
            raise InputError("structured array in the file: only plain numbers are read")
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands in for `numpy.ndarray`."""

    def __init__(self) -> None:
        self.value: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, is_fortran, raw = state
        self.value = _array(raw, dtype, shape, "F" if is_fortran else "C")


class _Attributes:
    """Stands in for an object that is only its attributes."""

    def __init__(self, *arguments: Any) -> None:
        del arguments  # whatever the class would have done with them is not done
        self.state: dict = {}

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple):
            state = next((part for part in state if isinstance(part, dict)), {})
        if isinstance(state, dict):
            self.state = state


class _Sparse(_Attributes):
    """Stands in for a scipy sparse matrix."""


class _Chumpy(_Attributes):
    """Stands in for a chumpy object."""


class _Object:
    """Stands in for `object` as a base class."""


def _stand_in(module: str, name: str) -> Callable | type | None:
    """Our replacement of a name in a pickle; None if the name is refused."""
    known: dict[tuple[str, str], Callable | type] = {
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _DType,
        ("_codecs", "encode"): _encode,
        ("copy_reg", "_reconstructor"): _reconstructor,
        ("copyreg", "_reconstructor"): _reconstructor,
        ("__builtin__", "object"): _Object,
        ("builtins", "object"): _Object,
        ("collections", "OrderedDict"): dict,
    }
    for package in ("numpy.core", "numpy._core"):
        known[f"{package}.multiarray", "_reconstruct"] = _reconstruct
        known[f"{package}.multiarray", "scalar"] = _scalar
        known[f"{package}.numeric", "_frombuffer"] = _from_buffer
    if (module, name) in known:
        return known[module, name]
    if re.fullmatch(r"scipy\.sparse(\.\w+)*", module) and re.fullmatch(r"(csc|csr|coo)_(matrix|array)", name):
        return _Sparse
    if re.fullmatch(r"chumpy(\.\w+)*", module):
        return _Chumpy
    return None


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1", "utf-8"):
        raise InputError(f"text encoded as {encoding!r} in the file: only numbers and arrays are read")
    return text.encode(encoding)


def _reconstructor(kind: Any, base: Any = None, state: Any = None) -> Any:
    del base, state
    if kind not in (_Sparse, _Chumpy):
        raise InputError("unexpected object in the file: only numbers and arrays are read")
    return kind()


def _reconstruct(kind: Any, shape: Any, code: Any) -> _Array:
    del shape, code
    if kind is not _Array:
        raise InputError("unexpected kind of array in the file: only plain arrays are read")
    return _Array()


def _scalar(dtype: _DType, raw: Any = b"") -> Any:
    return _array(raw, dtype, (), "C")[()]


def _from_buffer(raw: Any, dtype: _DType, shape: Any, order: str) -> np.ndarray:
    return _array(raw, dtype, shape, order)


def _array(raw: Any, dtype: _DType, shape: Any, order: str) -> np.ndarray:
    shape = (shape,) if isinstance(shape, int) else tuple(int(length) for length in shape)
    order = "F" if order == "F" else "C"
    if dtype.dtype.hasobject:
        if not isinstance(raw, list) or len(raw) != np.prod(shape, dtype=np.int64):
            raise InputError("array of objects with the wrong length in the file: get the file again")
        result, done = np.empty(len(raw), dtype=object), {}
        for index, item in enumerate(raw):
            result[index] = _resolve(item, done)
        return result.reshape(shape, order=order)  # pyright: ignore[reportCallIssue, reportArgumentType]
    raw = raw.encode("latin1") if isinstance(raw, str) else bytes(raw)
    return np.frombuffer(raw, dtype.dtype).reshape(shape, order=order)  # pyright: ignore[reportCallIssue, reportArgumentType]


def _resolve(value: Any, done: dict[int, Any], depth: int = 0) -> Any:
    """Replaces the stand-ins by arrays; `done` remembers shared parts, so that sharing cannot multiply the work."""
    if depth > _MAX_DEPTH:
        raise InputError("the file is nested too deeply: not a head model file")
    if id(value) not in done:
        done[id(value)] = _resolve_one(value, done, depth + 1)
    return done[id(value)]


def _resolve_one(value: Any, done: dict[int, Any], depth: int) -> Any:
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, _DType):
        return str(value.dtype)
    if isinstance(value, _Sparse):
        return _dense({key: _resolve(item, done, depth) for key, item in value.state.items()})
    if isinstance(value, _Chumpy):
        # an array node keeps its numbers under `x`; other nodes are formulas, which are not evaluated
        return _resolve(value.state.get("x"), done, depth)
    if isinstance(value, dict):
        return {key: _resolve(item, done, depth) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_resolve(item, done, depth) for item in value)
    return value


def _dense(state: dict) -> np.ndarray:
    """A sparse matrix's attributes to a dense array."""
    shape = tuple(int(length) for length in state.get("_shape", state.get("shape", ())))
    if len(shape) != 2 or min(shape) < 0 or shape[0] * shape[1] > _MAX_DENSE_ENTRIES:
        raise InputError(f"sparse matrix of shape {shape} in the file: expected two small dimensions")
    data = np.asarray(state["data"])
    result = np.zeros(shape, dtype=np.result_type(data, np.float64))
    if "indptr" in state:
        starts, inner = np.asarray(state["indptr"]).astype(np.int64), np.asarray(state["indices"])
        if (np.diff(starts) < 0).any() or starts[0] != 0 or not starts[-1] == len(inner) == len(data):
            raise InputError("sparse matrix with inconsistent indices in the file: get the file again")
        is_columns = len(starts) == shape[1] + 1  # a square matrix read the other way round would be transposed
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
