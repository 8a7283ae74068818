"""What is kept between frames, and what is said when a device's memory is full."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import ref

import torch
from torch import Tensor

from flame.errors import InputError
from portrait4d.reconstructor.network import SourceFeatures
from portrait4d.render.planes import TriPlanes


@dataclass(frozen=True)
class StillPlanes:
    """The planes of one source under one motion code `[1, M]` (or None); they do not keep the source alive."""

    source: ref[SourceFeatures]
    codes: Tensor | None
    planes: TriPlanes

    @classmethod
    def of(cls, features: SourceFeatures, codes: Tensor | None, planes: TriPlanes) -> StillPlanes:
        """Keeps the planes of a source."""
        return cls(ref(features), codes, planes)

    def is_of(self, features: SourceFeatures, codes: Tensor | None) -> bool:
        """Whether these are the planes of a source under a code."""
        if self.source() is not features:
            return False
        return codes is self.codes if codes is None or self.codes is None else torch.equal(codes, self.codes)


@contextmanager
def explained_memory(device: torch.device | str, what: str, *, is_last: bool = True) -> Iterator[None]:
    """Turns torch's error for a full memory into an `InputError`, unless another attempt follows.

    Args:
        device: the device, for the message.
        what: what its memory does not hold, for the message.
        is_last: whether no other attempt follows.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        if not is_last:
            raise
        raise InputError(f"the memory of {device} does not hold {what}: free some, or use --device cpu") from error
