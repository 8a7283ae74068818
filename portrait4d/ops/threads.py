"""Sharing compiled loops, which hold no interpreter lock, among as many threads as torch uses."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch


def split_range(count: int, work: Callable, *arguments: object, pool: ThreadPoolExecutor | None = None) -> None:
    """Calls `work(*arguments, begin, stop)` for parts of `0` to `count`.

    Args:
        pool: taken instead of a pool of this call's own; for many short calls.
    """
    num_threads = torch.get_num_threads()
    if num_threads == 1:
        return work(*arguments, 0, count)
    if pool is None:
        with ThreadPoolExecutor(num_threads) as own:
            return split_range(count, work, *arguments, pool=own)
    size = max(-(-count // num_threads), 1)
    parts = [pool.submit(work, *arguments, begin, min(begin + size, count)) for begin in range(0, count, size)]
    for part in parts:
        part.result()
