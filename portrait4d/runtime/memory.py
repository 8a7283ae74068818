"""Memory of this process: its peak, returning freed memory, and keeping what is soon needed again."""

import ctypes
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # loading torch takes longer than a command that measures nothing
    import torch

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
"""Parameters of mallopt(3)."""

_NEVER = 2**31 - 1


def peak_memory_mb(device: "torch.device | None" = None) -> float:
    """Largest memory so far, in MiB.

    Args:
        device: where a job computes; on CUDA, what torch held there counts. None is the CPU.

    Returns:
        Else the resident size of this process; 0 where the system does not report it (Windows).
    """
    if device is not None and device.type == "cuda":
        import torch

        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    try:
        import resource
    except ModuleNotFoundError:
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10), 1)


def return_freed_memory() -> None:
    """Returns freed memory to the system where the C library is glibc; does nothing elsewhere.

    glibc keeps the pages of freed arrays below 32 MB. Many of them are freed between two stages of work: 95 MB of 664
    after a clip of 1500 frames is tracked, 150 MB of 570 after an EG3D backbone.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):  # musl
        return


def keep_freed_memory() -> bool:
    """Keeps freed memory for this process's next allocations; for programs that draw many frames on a CPU.

    glibc returns large blocks to the system at once, and the page faults of allocating them again were a tenth of a
    frame's CPU time. After the call the process stays as large as its peak. Threads that are started later share one
    heap, because a thread's own heap holds no large blocks. Idempotent.

    Returns:
        Whether there was something to set: False where the C library is not glibc.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    # musl defines mallopt for the linker only, and no gnu_get_libc_version
    if mallopt is None or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"):
        return False
    return all([mallopt(_MMAP_MAX, 0), mallopt(_TRIM_THRESHOLD, _NEVER), mallopt(_ARENA_MAX, 1)])
