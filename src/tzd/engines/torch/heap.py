"""What a step of training on a CPU frees is kept for the next one, not handed back to the system."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of <malloc.h>
_KEEPING = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1}
_USUAL = {_MMAP_MAX: 2**16, _TRIM_THRESHOLD: 2**17}


@contextmanager
def kept_memory(device_type: str) -> Iterator[None]:
    """Has a process that computes on its CPU keep what it frees, as long as it lasts.

    Every step allocates and frees hundreds of megabytes. glibc returns arrays of such sizes to the system at once, and
    gets them back as new, zeroed pages: 3 to 15% of the time of a step (docs/log.md). The peak of memory stays the
    same. Without effect on other devices and other C libraries.

    Args:
        device_type: of the device that computes.
    """
    libc = ctypes.CDLL(None) if device_type == "cpu" and sys.platform == "linux" else None
    if not hasattr(libc, "gnu_get_libc_version"):  # a C library other than glibc
        yield
        return
    assert libc is not None
    for name, value in _KEEPING.items():
        libc.mallopt(name, value)
    try:
        yield
    finally:
        for name, value in _USUAL.items():
            libc.mallopt(name, value)
        libc.malloc_trim(ctypes.c_size_t(0))
