"""The random numbers that the official code drew in a training step, given to ours by their role."""

import math
import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class ReplayedDraws:
    """A `SampleSource` of stored calls, made anew by the rule of the reference material.

    Our code asks in another order and in other shapes. A call is therefore answered by the first official one of its
    kind and number of elements that was not given yet: layers keep their order, and points, directions and jitter
    differ in size.

    Args:
        name: of the calls, `FIXTURE:CASE`.
        calls: `[index, kind, shape, ...]` of each.
    """

    def __init__(self, name: str, calls: Sequence[Sequence]) -> None:
        self.name = name
        self._left = [(int(call[0]), str(call[1]), tuple(call[2])) for call in calls]

    def uniform(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """See `SampleSource`."""
        return self._take("uniform", shape).to(like)

    def normal(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """See `SampleSource`."""
        return self._take("normal", shape).to(like)

    def choose(self, probability: float) -> bool:
        """The next decision for a whole batch."""
        return float(self._take("uniform", ())) < probability

    @property
    def left(self) -> list[tuple[str, tuple[int, ...]]]:
        """Kinds and shapes of the calls that nobody asked for."""
        return [(kind, shape) for _, kind, shape in self._left]

    def _take(self, kind: str, shape: Sequence[int]) -> Tensor:
        for place, (index, own, official) in enumerate(self._left):
            is_scalar = len(official) == 0
            if own == kind and is_scalar == (len(shape) == 0) and math.prod(official) == math.prod(shape):
                del self._left[place]
                return self._draw(index, kind, official).reshape(tuple(shape))
        raise AssertionError(f"{self.name}: no call left of kind {kind}, shape {list(shape)}; left are {self.left}")

    def _draw(self, index: int, kind: str, shape: tuple[int, ...]) -> Tensor:
        random = np.random.default_rng(zlib.crc32(f"noise:{self.name}:{index}".encode()))
        drawn = random.random(shape) if kind == "uniform" else random.standard_normal(shape)
        return torch.from_numpy(np.asarray(drawn, np.float32))
