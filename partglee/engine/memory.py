"""Memory of training on a CPU."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # names of mallopt(3)


def keep_freed_memory() -> bool:
    """Let the C library keep what is freed for the next step, where it can (glibc).

    Every step allocates and frees the same large blocks; given back to the system, each comes back as page faults. On
    the tiny model at 256 x 256, one thread, those took 6 % of a step; the peak was the same.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, -1) and mallopt(_TOP_PAD, 1 << 26))
