"""The C library's allocator, told to keep what a training step frees: the next step wants the same again."""

import ctypes
import sys

# Numbers of glibc's malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
TOP_PAD = 64 * 2**20


def keep_freed_memory() -> bool:
    """Stop glibc from returning large blocks to the system at each `free`; True where that was possible.

    By default every activation is a fresh mapping whose pages are zeroed one fault at a time, which costs a
    CPU a fifth to a half of a step (`benchmarks/throughput.py --allocator` measures it).
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt") or not hasattr(libc, "gnu_get_libc_version"):
        return False
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, TOP_PAD))
    return all(libc.mallopt(option, value) == 1 for option, value in settings)
