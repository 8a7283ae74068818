"""The reconstructor's parts by name, each entered while it computes, so that memory and time can be told apart."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import portrait4d.reconstructor.network as network_module
from portrait4d.reconstructor.network import Reconstructor

PARTS = ("encoders", "transformers", "plane decoder", "rendering", "super-resolution")

Enter = Callable[[str], AbstractContextManager[None]]


def within(function: Callable[..., Any], enter: Enter, name: str) -> Callable[..., Any]:
    """A function that enters a part for as long as it computes."""

    def entered(*arguments: Any, **options: Any) -> Any:
        with enter(name):
            return function(*arguments, **options)

    return entered


@contextmanager
def named_parts(network: Reconstructor, enter: Enter) -> Iterator[None]:
    """The network enters its parts, also where a backward pass computes them again."""
    places = [
        (network.encoder_global, "forward", "encoders"),
        (network.encoder_detail, "forward", "encoders"),
        (network.background, "forward", "encoders"),
        (network.encoder_canonical, "neutralise", "transformers"),
        (network.encoder_canonical, "reenact", "transformers"),
        (network.generator_triplane, "prepare", "plane decoder"),
        (network.generator_triplane, "forward", "plane decoder"),
        (network_module, "render", "rendering"),
        (network.superresolution, "forward", "super-resolution"),
    ]
    with ExitStack() as stack:
        for owner, method, name in places:
            stack.enter_context(patch.object(owner, method, within(getattr(owner, method), enter, name)))
        yield
