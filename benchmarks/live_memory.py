"""Counts the memory of tensors while they live, also on torch's device meta, where nothing is computed."""

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

OTHER = "other"
"""The part of what is made outside of all parts."""


class LiveMemory(TorchDispatchMode):
    """While it is entered, counts storages that operations make, in the backward pass too.

    It sees what torch's allocator on a GPU would hand out, without what a library takes for itself while it computes.

    Args:
        given: tensors that are not counted, nor views of them: parameters, buffers, inputs.

    Attributes:
        live: bytes that are alive.
        peak: the most that ever were.
    """

    def __init__(self, given: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self._given = list(given)  # they stay alive, so that their addresses name nothing else
        self._known = {tensor.untyped_storage()._cdata for tensor in self._given}
        self._storages: dict[int, tuple[str, int]] = {}
        self._part = OTHER
        self.live = self.peak = 0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What is made meanwhile is of this part; of the inner one where parts are nested."""
        before, self._part = self._part, name
        try:
            yield
        finally:
            self._part = before

    def by_part(self) -> dict[str, int]:
        """Bytes that are alive, by the part that made them."""
        counted: Counter[str] = Counter()
        for name, size in self._storages.values():
            counted[name] += size
        return dict(counted)

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: object, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self._note(value)
        return result

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        address = storage._cdata
        if address in self._known or address in self._storages:
            return
        self._storages[address] = self._part, storage.nbytes()
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, address)

    def _forget(self, address: int) -> None:
        _, size = self._storages.pop(address)
        self.live -= size


def tensors_of(networks: Iterable[nn.Module]) -> list[Tensor]:
    """Parameters and buffers."""
    return [value for network in networks for value in (*network.parameters(), *network.buffers())]


def drop_gradients(network: nn.Module) -> None:
    """From now on a gradient is gone as soon as it is there, as if it were added to that of earlier rounds."""

    def drop(parameter: Tensor) -> None:
        parameter.grad = None

    for parameter in network.parameters():
        parameter.register_post_accumulate_grad_hook(drop)
