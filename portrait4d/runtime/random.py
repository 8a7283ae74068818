"""Random numbers that networks and losses draw: from one generator, or from one for each sample of a batch.

In training a number depends on nothing but the run's seed, the images seen, the sample's place in the batch and what it
is drawn for. So a run resumes without stored generators, and a batch that is split between processes or rounds draws
the numbers of the whole one.
"""

import hashlib
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class SampleSource(Protocol):
    """Draws for a batch whose first axis counts samples."""

    def uniform(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Numbers in [0, 1) of a shape, with the dtype and device of `like`."""
        ...

    def normal(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Standard normal numbers of a shape, with the dtype and device of `like`."""
        ...


RandomSource = torch.Generator | SampleSource
"""Where a function takes its random numbers from."""


def uniform(source: RandomSource, shape: Sequence[int], like: Tensor) -> Tensor:
    """Numbers in [0, 1), with the dtype and device of `like`; a generator must be on that device."""
    if isinstance(source, torch.Generator):
        return torch.rand(tuple(shape), generator=source, dtype=like.dtype, device=like.device)
    return source.uniform(shape, like)


def normal(source: RandomSource, shape: Sequence[int], like: Tensor) -> Tensor:
    """Standard normal numbers, with the dtype and device of `like`; a generator must be on that device."""
    if isinstance(source, torch.Generator):
        return torch.randn(tuple(shape), generator=source, dtype=like.dtype, device=like.device)
    return source.normal(shape, like)


def derive_seed(*facts: int | str) -> int:
    """A seed in [0, 2^63) that depends on all facts, and is the same on every machine and in every process."""
    digest = hashlib.blake2b("/".join(map(str, facts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class PerSample:
    """One generator for each of B samples, on the CPU, so that every device draws the same numbers.

    Args:
        seeds: of the samples, B of them.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __len__(self) -> int:
        return len(self.generators)

    def uniform(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """See `SampleSource`; `shape[0]` is B."""
        return self._each(torch.rand, shape, like)

    def normal(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """See `SampleSource`; `shape[0]` is B."""
        return self._each(torch.randn, shape, like)

    def _each(self, draw, shape: Sequence[int], like: Tensor) -> Tensor:
        if shape[0] != len(self):
            raise ValueError(f"expected a shape that starts with {len(self)} samples, got {list(shape)}")
        drawn = [draw(tuple(shape[1:]), generator=generator) for generator in self.generators]
        return torch.stack(drawn).to(device=like.device, dtype=like.dtype)
