"""Training data as an endless stream: which record a position holds depends on the seed alone, and is read ahead."""

import copy
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from portrait4d.runtime.random import derive_seed

Item = TypeVar("Item")
Item_co = TypeVar("Item_co", covariant=True)


class Source(Protocol[Item_co]):
    """Records by index, such as `preprocess.dataset.reading.dataset.Dataset`.

    Each thread reads from a copy of its own (`copy.copy`), so that an open file has one reader: a copy must not share
    files with its original.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Item_co: ...


class EndlessSource(Protocol[Item_co]):
    """Records by any index from 0 on, made when they are asked for; copied for each thread as a `Source` is."""

    def __getitem__(self, index: int, /) -> Item_co: ...


class RecordStream(Generic[Item]):
    """Epochs of a source one after the other, each in an order of its own; an endless source in its own order.

    What a position holds does not depend on threads, on processes, or on what was read before.

    Attributes:
        num_records: of an epoch; None where the source is endless.

    Args:
        source: the records.
        seed: of the orders.
        num_threads: readers; decoding frees Python's lock, so that they work beside the networks.
        capacity: records kept at most, read ahead or used.
    """

    def __init__(
        self, source: Source[Item] | EndlessSource[Item], *, seed: int, num_threads: int = 2, capacity: int = 256
    ) -> None:
        self.num_records = len(source) if isinstance(source, Sized) else None
        if self.num_records == 0 or num_threads < 1 or capacity < 1:
            raise ValueError(
                f"expected records, threads and capacity of 1 or more, got {self.num_records}, {num_threads}, "
                f"{capacity}"
            )
        self.source, self.seed, self.capacity = source, seed, capacity
        self._readers = ThreadPoolExecutor(num_threads, thread_name_prefix="records")
        self._own = threading.local()
        self._orders: OrderedDict[int, NDArray[np.int64]] = OrderedDict()
        self._held: OrderedDict[int, Future[Item]] = OrderedDict()
        self._used: set[int] = set()

    def index_of(self, position: int) -> int:
        """Index in the source of the record at a position of the stream, from 0."""
        if self.num_records is None:
            return position
        epoch, place = divmod(position, self.num_records)
        if epoch not in self._orders:
            random = np.random.default_rng(derive_seed(self.seed, "epoch", epoch))
            self._orders[epoch] = random.permutation(self.num_records)
            if len(self._orders) > 2:  # a batch may lie across the boundary
                self._orders.popitem(last=False)
        return int(self._orders[epoch][place])

    def prefetch(self, positions: Iterable[int]) -> None:
        """Starts to read records; those that nobody has taken yet are kept, and what does not fit is read later."""
        for position in positions:
            if position in self._held:
                continue
            if len(self._held) >= self.capacity and not self._drop():
                return
            self._held[position] = self._readers.submit(self._read, self.index_of(position))

    def at(self, position: int) -> Item:
        """The record at a position; waits for it, or reads it now."""
        if position not in self._held:
            if len(self._held) >= self.capacity and not self._drop():
                self._held.popitem(last=False)
            self._held[position] = self._readers.submit(self._read, self.index_of(position))
        self._held.move_to_end(position)
        self._used.add(position)
        return self._held[position].result()

    def close(self) -> None:
        """Ends the readers; what was not begun is not read."""
        self._readers.shutdown(wait=True, cancel_futures=True)
        self._held.clear()
        self._used.clear()

    def _drop(self) -> bool:
        """Forgets the record that was used longest ago, if any was."""
        oldest = next((position for position in self._held if position in self._used), None)
        if oldest is None:
            return False
        del self._held[oldest]
        self._used.discard(oldest)
        return True

    def _read(self, index: int) -> Item:
        if not hasattr(self._own, "source"):
            self._own.source = copy.copy(self.source)
        return self._own.source[index]
