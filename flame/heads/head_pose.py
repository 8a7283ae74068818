"""The pose of a head, and the methods that poses and parameters of heads share.

One fitted head is a `HeadPose` and a `HeadParams` (`flame.heads.head_model`) everywhere. Both are generic in their
arrays: torch tensors by default (`HeadPose`), numpy arrays in single-frame fits, clips and records
(`HeadPose[NDArray[np.float32]]`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Generic

import numpy as np
import torch
from torch import Tensor

from flame.geometry.rotation import axis_angle_to_matrix, matrix_to_axis_angle

if TYPE_CHECKING:
    from typing_extensions import Self, TypeVar

    Array = TypeVar("Array", default=Tensor)
    Other = TypeVar("Other", default=Tensor)
else:  # TypeVar of typing has no defaults before Python 3.13
    from typing import TypeVar

    Array = TypeVar("Array")
    Other = TypeVar("Other")


HEAD_CENTRE = (0.0, 0.1, 0.06)
"""Middle of the head in the head frame, metres: the point that an edited or orbiting head turns around."""


class ArrayFields:
    """Base of frozen dataclasses whose fields are arrays with a common first axis, or such dataclasses themselves."""

    def named(self) -> dict[str, Any]:
        """Returns the fields by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}  # pyright: ignore[reportArgumentType]

    def arrays(self) -> list[Any]:
        """Returns all arrays in the order of the fields, those of nested dataclasses in their place."""
        values = self.named().values()
        return [array for value in values for array in (value.arrays() if isinstance(value, ArrayFields) else [value])]

    def replace(self, **changes: Any) -> Self:
        """Returns a copy with some fields changed."""
        return replace(self, **changes)  # pyright: ignore[reportArgumentType]

    def to(self, *args: torch.device | torch.dtype | str) -> Self:
        """Moves all tensors as `Tensor.to` does: to a device, a dtype, or both."""
        return self.map(lambda tensor: tensor.to(*args))

    def __len__(self) -> int:
        return len(self.arrays()[0])

    def __getitem__(self, index: int | slice | Tensor) -> Self:
        """Returns rows of the batch; an integer gives a batch of one."""
        if isinstance(index, int):
            index = slice(index, index + 1) if index != -1 else slice(-1, None)
        return self.map(lambda array: array[index])

    def row(self, index: int) -> Self:
        """Returns one row of the batch, without the batch axis."""
        return self.map(lambda array: array[index])

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Concatenates batches along the first axis."""
        named = [part.named() for part in parts]
        joined = {}
        for name, first in named[0].items():
            values = [part[name] for part in named]
            joined[name] = type(first).concatenate(values) if isinstance(first, ArrayFields) else join(values)
        return cls(**joined)

    def map(self, change: Callable[[Any], Any]) -> Any:
        """Returns the same with `change` applied to each array."""

        def changed(value: Any) -> Any:
            return value.map(change) if isinstance(value, ArrayFields) else change(value)

        return self.replace(**{name: changed(value) for name, value in self.named().items()})


@dataclass(frozen=True, kw_only=True)
class HeadPose(ArrayFields, Generic[Array]):
    """The pose of a head in camera space (OpenGL axes): `x_camera = R x_head + t`.

    Attributes:
        rotation: `[B, 3]` axis-angle, radians.
        translation: `[B, 3]` of the head's origin, metres.
    """

    rotation: Array
    translation: Array

    def map(self, change: Callable[[Array], Other]) -> HeadPose[Other]:
        """Returns the same pose with `change` applied to each array."""
        return super().map(change)

    def turned_to(self: HeadPose[Tensor], rotation: Tensor) -> HeadPose[Tensor]:
        """Returns the pose with rotations `[B, 3, 3]` in place of its own, the middle of the head where it was."""
        own, centre = axis_angle_to_matrix(self.rotation), rotation.new_tensor(HEAD_CENTRE)
        translation = own @ centre + self.translation - rotation @ centre
        return HeadPose(rotation=matrix_to_axis_angle(rotation), translation=translation)


def join(arrays: Sequence[Any], axis: int = 0) -> Any:
    """Concatenates tensors, or numpy arrays, along an axis."""
    return np.concatenate(arrays, axis) if isinstance(arrays[0], np.ndarray) else torch.cat(list(arrays), axis)
