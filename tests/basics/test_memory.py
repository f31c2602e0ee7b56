"""Keeping freed memory: freed pages come back without the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import ctypes, resource, sys
from partglee.basics.memory import keep_freed_memory
told = keep_freed_memory() if "keep" in sys.argv else None
libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
for round in range(5):
    if round == 1:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc(100 * 2**20)
    ctypes.memset(block, 1, 100 * 2**20)
    libc.free(block)
print(told, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_pages_stay() -> None:
    def run(*words: str, **environment: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, *words], capture_output=True, text=True, check=True, env=environment
        )
        return done.stdout.split()

    assert run()[0] == "None"
    told, faults = run("keep")
    assert told == "True" and int(faults) < 100
    assert int(run()[1]) > 4 * int(faults) + 100, "without it every block comes as new pages"
    assert run("keep", MALLOC_ARENA_MAX="1")[0] == "False", "what the environment says goes first"
