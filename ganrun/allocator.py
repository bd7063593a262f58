"""The C library's allocator, told to keep big blocks: without it every step pays page faults for its activations."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
BIG = 2**31 - 1  # bytes; mallopt takes an int


def keep_big_blocks() -> bool:
    """Let glibc serve blocks of any size from the heap and give none back; elsewhere nothing happens."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, BIG)) and bool(mallopt(M_TRIM_THRESHOLD, BIG))
