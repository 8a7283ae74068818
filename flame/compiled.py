"""A numba decorator that does nothing until the first call: an import loads no compiler and makes no cache folder."""

from collections.abc import Callable
from functools import cache, wraps
from typing import Any


def compiled(**options: Any) -> Callable[[Callable], Callable]:
    """Returns a decorator like `numba.njit(cache=True, nogil=True, **options)` that loads numba at the first call.

    Where no cache folder can be written, each process compiles the function again. Where one compiled function calls
    another, the inner one needs plain `numba.njit`.
    """

    def decorate(function: Callable) -> Callable:
        @cache
        def machine_code() -> Callable:
            import numba

            try:
                return numba.njit(cache=True, nogil=True, **options)(function)
            except RuntimeError:  # how numba says that it found no place for the cache
                return numba.njit(nogil=True, **options)(function)

        @wraps(function)
        def call(*arguments: Any) -> Any:
            return machine_code()(*arguments)

        return call

    return decorate
