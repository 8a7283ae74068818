"""What this process takes of memory: its peak, giving back what is freed, keeping what is soon needed again."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
"""Of mallopt(3)."""

_NEVER = 2**31 - 1


def peak_memory_mb() -> float:
    """Largest resident size of this process so far, in MiB; 0 where the system does not tell (Windows)."""
    try:
        import resource
    except ModuleNotFoundError:
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10), 1)


def return_freed_memory() -> None:
    """Hands freed memory back to the system, where the C library is glibc; elsewhere there is nothing to do.

    glibc keeps the pages of freed arrays below 32 MB. Many of them are freed between two stages of work: after a clip
    of 1500 frames is tracked 95 MB of 664, after an EG3D backbone 150 MB of 570.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):  # musl
        return


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
