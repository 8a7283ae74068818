"""A numba decorator that does nothing until the first call: no compiler, no cache folder at import."""

from collections.abc import Callable
from functools import cache, wraps
from typing import Any


def compiled(**options: Any) -> Callable[[Callable], Callable]:
    """Like `numba.njit(cache=True, nogil=True, **options)`, but numba is loaded and the folder touched at first use.

    Where no cache folder can be written, the function is compiled anew in each process. Compiled functions that call
    each other inside need plain `numba.njit` on the inner one.
    """

    def decorate(function: Callable) -> Callable:
        @cache
        def machine_code() -> Callable:
            import numba

            try:
                return numba.njit(cache=True, nogil=True, **options)(function)
            except RuntimeError:  # numba's word for "no place for the cache"
                return numba.njit(nogil=True, **options)(function)

        @wraps(function)
        def call(*arguments: Any) -> Any:
            return machine_code()(*arguments)

        return call

    return decorate
