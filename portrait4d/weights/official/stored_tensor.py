"""Tensors that still lie in a file: type, shape and place are known and checked, the numbers are read on demand."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from flame.errors import InputError, brief, printable

DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
"""The storage classes of torch that are read. Complex and quantised numbers occur in no file of this kind."""

_MAX_DIMENSIONS = 8
_MAX_LENGTH = 2**40


@dataclass
class Storage:
    """A row of numbers; `data` is a view of the file, set once its place is known."""

    dtype: torch.dtype
    num_items: int
    data: memoryview | None = None

    def fill(self, data: memoryview) -> None:
        """Sets the data.

        Raises:
            InputError: their length is not the announced one.
        """
        expected = self.num_items * self.dtype.itemsize
        if len(data) != expected:
            raise InputError(f"a tensor in the file has {len(data)} bytes where {expected} were announced: damaged")
        self.data = data


@dataclass(frozen=True)
class StoredTensor:
    """A strided window into a storage, like a `torch.Tensor` that has not been read yet."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def dtype(self) -> torch.dtype:
        """The type of the numbers."""
        return self.storage.dtype

    @property
    def num_bytes(self) -> int:
        """Size of the tensor in memory once it is read."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self) -> torch.Tensor:
        """Reads the tensor, contiguous, into memory of its own."""
        if not math.prod(self.shape):
            return torch.empty(self.shape, dtype=self.dtype)
        if self.storage.data is None:
            raise InputError("a tensor in the file was announced but never written: the file is damaged")
        last = self.offset + sum((length - 1) * step for length, step in zip(self.shape, self.stride, strict=True))
        size = self.dtype.itemsize
        data = bytearray(self.storage.data[self.offset * size : (last + 1) * size])
        if self.dtype == torch.bool and max(data) > 1:
            raise InputError("a bool tensor in the file holds bytes other than 0 and 1: the file is damaged")
        window = torch.frombuffer(data, dtype=self.dtype)
        return window.as_strided(self.shape, self.stride).contiguous()


def make_storage(kind: Any, num_items: Any) -> Storage:
    """The storage that torch calls `kind`, of `num_items` numbers.

    Raises:
        InputError: the kind is unknown, or the count makes no sense.
    """
    name = kind.name.rpartition(".")[2] if hasattr(kind, "name") else brief(kind)
    if name not in DTYPES:
        raise InputError(f"the file holds a tensor of kind {printable(name[:60])}: known are {', '.join(DTYPES)}")
    if not (_is_count(num_items) and num_items <= _MAX_LENGTH):
        raise InputError(f"a tensor in the file announces {brief(num_items)} numbers: the file is damaged")
    return Storage(DTYPES[name], num_items)


def make_tensor(storage: Any, offset: Any, shape: Any, stride: Any, *unused: Any) -> StoredTensor:
    """Stands in for `torch._utils._rebuild_tensor_v2`; the other arguments concern training alone.

    Raises:
        InputError: the window reaches beyond the storage.
    """
    del unused
    if not isinstance(storage, Storage):
        raise InputError("a tensor in the file refers to something that is not a storage: the file is damaged")
    lengths = (*_counts(shape, "shape"), *_counts(stride, "stride"), *_counts((offset,), "offset"))
    if len(shape) != len(stride) or len(shape) > _MAX_DIMENSIONS or max(lengths) > _MAX_LENGTH:
        raise InputError(f"a tensor in the file has shape {brief(shape)}, stride {brief(stride)}: it is damaged")
    end = offset + sum((length - 1) * step for length, step in zip(shape, stride, strict=True)) + 1
    if math.prod(shape) and end > storage.num_items:
        raise InputError(
            f"a tensor in the file of shape {brief(shape)} reaches to number {end} of a storage of "
            f"{storage.num_items}: it is damaged"
        )
    return StoredTensor(storage, offset, tuple(shape), tuple(stride))


def read_all(tensors: Mapping[str, StoredTensor]) -> dict[str, torch.Tensor]:
    """All tensors, in memory of their own."""
    return {name: tensor.read() for name, tensor in tensors.items()}


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _counts(values: Any, what: str) -> tuple[int, ...]:
    if not (isinstance(values, tuple) and all(map(_is_count, values))):
        raise InputError(f"a tensor in the file has the {what} {brief(values)}: expected whole numbers from 0")
    return values
