"""Memory that a process frees and soon needs again."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
"""Of mallopt(3)."""

_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Lets this process keep what it frees, for its next allocations; for programs that draw many frames on a CPU.

    glibc gives large blocks back to the system at once, and the page faults of taking them anew were a tenth of a
    frame's CPU time. From the call on the process stays as large as it was at its peak. Threads that are started later
    share one heap: heaps of their own hold no large blocks. Idempotent.

    Returns:
        Whether there was something to set: False where the C library is not glibc.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    # musl has the name for the linker's sake and no gnu_get_libc_version
    if mallopt is None or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"):
        return False
    return all([mallopt(_MMAP_MAX, 0), mallopt(_TRIM_THRESHOLD, _NEVER), mallopt(_ARENA_MAX, 1)])
