"""When compiled loops may replace torch, and how they share its threads; they hold no interpreter lock."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, get_args

import torch
from torch import Tensor

Backend = Literal["auto", "torch", "numba"]
"""How an operation is computed: torch defines it, numba is its compiled form, auto takes what is faster."""


def takes_compiled(backend: Backend, *, can_be: bool, pays: bool = True, needs: str, got: Tensor) -> bool:
    """Whether an operation takes its compiled form.

    Args:
        backend: asked for.
        can_be: whether the compiled form takes these inputs.
        pays: whether it is then the faster one, for "auto".
        needs: what the compiled form needs, for the error.
        got: the input that decides, for the error.

    Raises:
        ValueError: there is no such backend, or the compiled form was asked for and does not take these inputs.
    """
    if backend not in get_args(Backend):
        raise ValueError(f"backend must be 'auto', 'torch' or 'numba', got {backend!r}")
    if backend == "numba" and not can_be:
        layout = f"{tuple(got.shape)} with strides {got.stride()}"
        raise ValueError(f"backend 'numba' needs {needs}, got {got.dtype} {layout} on {got.device}")
    return backend == "numba" or (backend == "auto" and can_be and pays)


def can_compile(*tensors: Tensor, with_gradients: bool = False) -> bool:
    """Whether all tensors are float32 on the CPU, outside of gradients, autocast and graph tracing.

    Args:
        *tensors: that are computed with.
        with_gradients: the compiled form has gradients of its own, so they may be wanted.
    """
    is_plain_memory = all(tensor.device.type == "cpu" and tensor.dtype == torch.float32 for tensor in tensors)
    # autocast would compute in less than float32; an export could not follow
    is_traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
    lacks_gradients = torch.is_grad_enabled() and not with_gradients
    return is_plain_memory and not (lacks_gradients or torch.is_autocast_enabled("cpu") or is_traced)


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


def differentiable_gradients(
    define: Callable[..., Tensor | tuple[Tensor, ...]],
    inputs: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """What the backward pass of a compiled function gives where it is to be differentiated itself: torch's gradients.

    Args:
        define: torch's definition of the function.
        inputs: of the function, as `saved_tensors` gives them.
        gradients: the loss's, at the results; None where one is not used.
        wanted: which inputs need a gradient.
    """
    results = define(*inputs)
    results = results if isinstance(results, tuple) else (results,)
    used = [(result, gradient) for result, gradient in zip(results, gradients, strict=True) if gradient is not None]
    chosen = [value for value, is_wanted in zip(inputs, wanted, strict=True) if is_wanted]
    found = iter(
        torch.autograd.grad(
            [result for result, _ in used], chosen, [given for _, given in used], create_graph=True, allow_unused=True
        )
    )
    return tuple(next(found) if is_wanted else None for is_wanted in wanted)
