"""When compiled loops may replace torch, and how they share its threads; they hold no interpreter lock."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor


def can_compile(*tensors: Tensor) -> bool:
    """Whether all tensors are float32 on the CPU, outside of gradients, autocast and graph tracing."""
    is_plain_memory = all(tensor.device.type == "cpu" and tensor.dtype == torch.float32 for tensor in tensors)
    # autocast would compute in less than float32; an export could not follow
    is_traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return is_plain_memory and not (torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or is_traced)


def split_range(count: int, work: Callable, *arguments: object, pool: ThreadPoolExecutor | None = None) -> None:
    """Calls `work(*arguments, begin, stop)` for parts of `0` to `count`.

    Args:
        count: size of the range.
        work: a function that releases the interpreter lock.
        *arguments: passed on to `work`.
        pool: used instead of a pool of this call's own; saves time over many short calls.
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
