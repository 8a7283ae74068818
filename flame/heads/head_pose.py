"""Where a head is, and what poses and parameters of heads have in common.

One fitted head is a `HeadPose` and a `HeadParams` (`flame.heads.head_model`) everywhere. Both hold whatever arrays
their place works in: torch tensors where nothing else is said (`HeadPose`), numpy arrays in single-frame fits, clips
and records (`HeadPose[NDArray[np.float32]]`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Generic

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from typing_extensions import Self, TypeVar

    Array = TypeVar("Array", default=Tensor)
    Other = TypeVar("Other", default=Tensor)
else:  # typing's own has no defaults before Python 3.13
    from typing import TypeVar

    Array = TypeVar("Array")
    Other = TypeVar("Other")


class ArrayFields:
    """A frozen dataclass all of whose fields are arrays with a common first axis, or again such dataclasses."""

    def named(self) -> dict[str, Any]:
        """The fields by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}  # pyright: ignore[reportArgumentType]

    def arrays(self) -> list[Any]:
        """All arrays in the order of the fields, those of nested fields in their place."""
        values = self.named().values()
        return [array for value in values for array in (value.arrays() if isinstance(value, ArrayFields) else [value])]

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed."""
        return replace(self, **changes)  # pyright: ignore[reportArgumentType]

    def to(self, *args: torch.device | torch.dtype | str) -> Self:
        """Like `Tensor.to` for all tensors: a device, a dtype, or both."""
        return self.map(lambda tensor: tensor.to(*args))

    def __len__(self) -> int:
        return len(self.arrays()[0])

    def __getitem__(self, index: int | slice | Tensor) -> Self:
        """Rows of the batch; an integer keeps a batch of one."""
        if isinstance(index, int):
            index = slice(index, index + 1) if index != -1 else slice(-1, None)
        return self.map(lambda array: array[index])

    def row(self, index: int) -> Self:
        """One of the batch, without the axis of the batch."""
        return self.map(lambda array: array[index])

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """One batch after another."""
        named = [part.named() for part in parts]
        joined = {}
        for name, first in named[0].items():
            values = [part[name] for part in named]
            joined[name] = type(first).concatenate(values) if isinstance(first, ArrayFields) else join(values)
        return cls(**joined)

    def map(self, change: Callable[[Any], Any]) -> Any:
        """The same of other arrays: each is changed by itself."""

        def changed(value: Any) -> Any:
            return value.map(change) if isinstance(value, ArrayFields) else change(value)

        return self.replace(**{name: changed(value) for name, value in self.named().items()})


@dataclass(frozen=True, kw_only=True)
class HeadPose(ArrayFields, Generic[Array]):
    """Where a head is in camera space (OpenGL axes).

    Attributes:
        rotation: `[B, 3]` axis-angle, radians.
        translation: `[B, 3]` of the head's origin, metres.
    """

    rotation: Array
    translation: Array

    def map(self, change: Callable[[Array], Other]) -> HeadPose[Other]:
        """The same of other arrays: each is changed by itself."""
        return super().map(change)


def join(arrays: Sequence[Any], axis: int = 0) -> Any:
    """Tensors, or numpy arrays, as one along an axis."""
    return np.concatenate(arrays, axis) if isinstance(arrays[0], np.ndarray) else torch.cat(list(arrays), axis)
