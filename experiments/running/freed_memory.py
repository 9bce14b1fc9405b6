"""Keeps the memory that columns give back, for the columns that come after them.

Measuring a long run fills and frees arrays of megabytes block by block. glibc gives each of them
back to the system, which zeroes every page of the next one anew: an eighth of the CPU time of such
a run. Other libraries of C are left as they are.
"""

import ctypes
from functools import cache
from typing import Final

_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
"""Numbers of glibc's ``mallopt`` (malloc.h): from how much free memory at the end of the heap on it
is given back, and from which size on a block lies outside of the heap."""
KEPT_BYTES: Final = 128 << 20
LARGE_BYTES: Final = 32 << 20
"""The most that glibc allows."""


@cache
def keep_freed_memory() -> None:
    """Let this process keep up to ``KEPT_BYTES`` that it has freed."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # no glibc
        return
    mallopt(_TRIM_THRESHOLD, KEPT_BYTES)
    mallopt(_MMAP_THRESHOLD, LARGE_BYTES)
