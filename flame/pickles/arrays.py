"""Stand-ins for what numpy writes into pickles: arrays, scalars and their types. A pickle calls no numpy function."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from flame.errors import InputError, brief
from flame.pickles.objects import PickledObject, StandIn


class DType(PickledObject):
    """Stands in for `numpy.dtype`."""

    def __init__(self, code: Any, align: Any = False, copy: Any = True) -> None:
        del align, copy
        if not isinstance(code, str) or not re.fullmatch(r"[biufcSUO]\d{0,6}|[?]", code):
            raise InputError(f"array of type {brief(code)} in the file: only plain numbers are read")
        self.dtype = np.dtype(code)

    def set_state(self, state: Any) -> None:
        """Takes the byte order; refuses fields."""
        if len(state) > 3 and (state[2] is not None or state[3] is not None):
            raise InputError("structured array in the file: only plain numbers are read")
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])

    def resolve(self, resolve: Callable[[Any], Any]) -> str:
        """Returns the name of the type."""
        return str(self.dtype)


class Array(PickledObject):
    """Stands in for `numpy.ndarray`; its numbers stay a view of the file's bytes."""

    def __init__(self) -> None:
        self._make: Callable[[Callable[[Any], Any]], np.ndarray] | None = None

    def set_state(self, state: Any) -> None:
        """Takes the shape, type, order and raw numbers."""
        _, shape, dtype, is_fortran, raw = state
        order = "F" if is_fortran else "C"
        if _dtype(dtype).hasobject:
            self._make = lambda resolve: _object_array(raw, shape, order, resolve)
        else:
            value = _array(raw, dtype, shape, order)
            self._make = lambda resolve: value

    def resolve(self, resolve: Callable[[Any], Any]) -> np.ndarray | None:
        """Returns the array."""
        return None if self._make is None else self._make(resolve)


def numpy_stand_ins() -> dict[tuple[str, str], StandIn]:
    """Returns the stand-ins by module and name, for files of numpy 1 and 2."""
    calls: dict[tuple[str, str], Callable[..., Any]] = {
        ("numpy", "ndarray"): Array,
        ("numpy", "dtype"): DType,
        ("_codecs", "encode"): _encode,
    }
    for package in ("numpy.core", "numpy._core"):
        calls[f"{package}.multiarray", "_reconstruct"] = _reconstruct
        calls[f"{package}.multiarray", "scalar"] = _scalar
        calls[f"{package}.numeric", "_frombuffer"] = _array
    return {(module, name): StandIn(f"{module}.{name}", call) for (module, name), call in calls.items()}


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1", "utf-8"):
        raise InputError(f"text encoded as {brief(encoding)} in the file: only numbers and arrays are read")
    return text.encode(encoding)


def _reconstruct(kind: Any, shape: Any, code: Any) -> Array:
    del shape, code
    if not (isinstance(kind, StandIn) and kind.call is Array):
        raise InputError("unexpected kind of array in the file: only plain arrays are read")
    return Array()


def _scalar(dtype: Any, raw: Any = b"") -> Any:
    return _array(raw, dtype, (), "C")[()]


def _array(raw: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    raw = raw.encode("latin1") if isinstance(raw, str) else memoryview(raw)
    return np.frombuffer(raw, _dtype(dtype)).reshape(_shape(shape), order="F" if order == "F" else "C")


def _object_array(raw: Any, shape: Any, order: Any, resolve: Callable[[Any], Any]) -> np.ndarray:
    shape = _shape(shape)
    if not isinstance(raw, list) or len(raw) != np.prod(shape, dtype=np.int64):
        raise InputError("array of objects with the wrong length in the file: get the file again")
    result = np.empty(len(raw), dtype=object)
    for index, item in enumerate(raw):
        result[index] = resolve(item)
    return result.reshape(shape, order="F" if order == "F" else "C")


def _dtype(value: Any) -> np.dtype:
    if not isinstance(value, DType):
        raise InputError("array without a type in the file: get the file again")
    return value.dtype


def _shape(shape: Any) -> tuple[int, ...]:
    return (shape,) if isinstance(shape, int) else tuple(int(length) for length in shape)
