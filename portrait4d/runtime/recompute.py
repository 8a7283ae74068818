"""Activations that are computed again in the backward pass instead of being kept from the forward pass.

Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost". Random numbers come from sources that move on as they
are drawn from, so the second pass draws from a copy of the source as it was before the first.
"""

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from portrait4d.runtime.random import RandomSource

Result = TypeVar("Result")


class Recomputing(nn.Module):
    """Base of networks whose large parts can be computed again in the backward pass.

    Attributes:
        recomputes: they are, where gradients are wanted; the result is the same.
    """

    recomputes: bool = False

    def run_part(
        self, part: Callable[..., Result], *arguments: object, generator: RandomSource | None, **options: object
    ) -> Result:
        """Calls a part of the network, see `recompute`."""
        if self.recomputes and torch.is_grad_enabled():
            return recompute(part, *arguments, generator=generator, **options)
        return part(*arguments, generator=generator, **options)


def recompute(
    function: Callable[..., Result], *arguments: object, generator: RandomSource | None, **options: object
) -> Result:
    """Calls a function and keeps none of its activations; the backward pass calls it again, as often as there are any.

    Args:
        function: its result must depend on nothing that changes until then.
        arguments: of the function; tensors among them are kept.
        generator: the function's source of random numbers.
        options: further arguments by name.
    """
    sources = [generator]  # of the first call, which moves it on
    before = copy.deepcopy(generator)

    def call() -> Result:
        source = sources.pop() if sources else copy.deepcopy(before)
        return function(*arguments, generator=source, **options)

    return checkpoint(call, use_reentrant=False)
