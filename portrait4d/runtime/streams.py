"""Threads between stages: an iterator filled ahead, a map that runs ahead but keeps the order, one thread for torch.

Stages run beside each other, so each torch call gets one thread: with more, idle threads spin and cost the other stages
more time than they save (44 against 18 CPU seconds for a clip of 200 frames on two cores).
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from queue import Empty, Full, Queue
from threading import Event, Thread, current_thread
from typing import Any, TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

_END = object()


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error


def prefetch(items: Iterable[Item], *, depth: int = 8) -> Iterator[Item]:
    """Yields the items in order while a thread reads up to `depth` ahead.

    An exception of the source is raised at its place. Leaving the loop early stops the thread.
    """
    queue: Queue[Any] = Queue(depth)
    is_stopped = Event()

    def put(item: object) -> bool:
        while not is_stopped.is_set():
            try:
                queue.put(item, timeout=0.1)
                return True
            except Full:
                continue
        return False

    def fill() -> None:
        try:
            for item in items:
                if not put(item):
                    break
            put(_END)
        except BaseException as error:  # handed to the consumer, which raises it
            put(_Failure(error))
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()

    thread = Thread(target=fill, daemon=True, name="prefetch")
    thread.start()
    try:
        while True:
            item = _get(queue, thread)
            if item is _END:
                return
            if isinstance(item, _Failure):
                raise item.error
            yield item
    finally:
        is_stopped.set()
        if thread is not current_thread():  # which may be the one that collects a forgotten generator
            thread.join()


def _get(queue: "Queue[Any]", thread: Thread) -> Any:
    """Waits in short steps, so that Ctrl-C is seen on every platform."""
    while True:
        try:
            return queue.get(timeout=0.2)
        except Empty:
            if not thread.is_alive() and queue.empty():
                return _END


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], *, num_workers: int, ahead: int = 2
) -> Iterator[Result]:
    """Runs `map(function, items)` on threads, results in order, at most `num_workers + ahead` items in flight."""
    pool = ThreadPoolExecutor(num_workers, thread_name_prefix="render")
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= num_workers + ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Runs each torch call inside on one thread; also usable as a decorator."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def num_render_workers(device: str) -> int:
    """Threads that render at once: at most four on a CPU; one on an accelerator, which queues by itself."""
    return min(4, os.cpu_count() or 1) if device == "cpu" else 1
