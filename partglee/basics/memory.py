"""Memory that a process has had once stays with it, and what Python's collector is spared."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # of glibc's malloc.h
_NEVER = 2**31 - 1
_AHEAD = 64 * 2**20  # bytes that are asked for at a time


def keep_freed_memory() -> bool:
    """Tell the C library to hand nothing back to the system until the process ends; whether it could be told.

    Networks on a processor ask for the same large tensors again and again. By default each comes as fresh pages, which
    the system clears and maps one by one: a quarter of a ResNet-50's time on a large image. For whole programs, not for
    libraries: everything in the process has it. Settings of the environment (`MALLOC_...`) go first.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return all([mallopt(_MMAP_MAX, 0), mallopt(_TRIM_THRESHOLD, _NEVER), mallopt(_TOP_PAD, _AHEAD)])


@contextmanager
def without_collector() -> Iterator[None]:
    """While a million objects are made of which none can be garbage, Python's collector does not look at them.

    It would again and again: three quarters of the time in which JSON is read.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
