"""Memory of a process that serves: what is freed goes back to the system at once.

glibc serves large arrays from its heaps, once one of them has been freed, and has a heap for
each of several threads. The logits of an inside view are megabytes; freed, they stayed in a
heap as a gap, and a worker grew by hundreds of megabytes in the course of an hour.
"""

import ctypes
import platform

M_MMAP_THRESHOLD = -3  # of malloc.h
LARGE = 2**20  # bytes


def return_large_arrays() -> None:
    """Map each array of ``LARGE`` bytes by itself, so that freeing unmaps it; glibc only."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE)
