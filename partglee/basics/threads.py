"""Threads of a program's matrix products, set before torch is loaded."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import MutableMapping
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup/cpu.max")


def share_cores(environment: MutableMapping[str, str] = os.environ, *, quota: Path = _CGROUP) -> bool:
    """Let threads that wait for each other sleep soon, and start no more than a container may use; whether it came in
    time.

    By default a thread that is done spins 300,000 times until the slowest is. Beside other work, or another of our
    processes, the spinning takes the core from the one that is waited for. 3,000 times cost a tenth on two idle cores
    and halve the time on two busy ones, or better. What the environment says (`OMP_...`, `GOMP_...`) goes first. OpenMP
    reads it when torch is loaded, so this is for programs.
    """
    if "torch" in sys.modules:
        return False
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", "3000")
    cores = _allowed(quota)
    if cores is not None and cores < (os.cpu_count() or 1):
        environment.setdefault("OMP_NUM_THREADS", str(cores))
    return True


def _allowed(quota: Path) -> int | None:
    """Cores that a container's limit on processor time comes to; None without a limit."""
    try:
        most, period = quota.read_text(encoding="ascii").split()
        return None if most == "max" else max(1, math.floor(int(most) / int(period)))
    except (OSError, ValueError):  # no such system
        return None
