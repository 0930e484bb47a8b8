"""Memory of a process that serves: what is freed goes back to the system at once.

glibc serves large arrays from its heaps, once one of them has been freed, and has a heap for
each of several threads. The logits of an inside view are megabytes; freed, they stayed in a
heap as a gap, and a worker grew by hundreds of megabytes in the course of an hour.
"""

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
# Bytes. Smaller are the logits of a step of eight texts and whatever is computed of them, which
# would otherwise be given back and taken again, page by page, for each token.
LARGE = 2**21


def return_large_arrays() -> None:
    """Map each array of ``LARGE`` bytes by itself, so that freeing unmaps it; glibc only.

    A heap keeps no more than so many bytes for later.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, LARGE)
        libc.mallopt(M_TRIM_THRESHOLD, LARGE)
