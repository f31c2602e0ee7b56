"""One run in one folder: a lock that ends with the process that has it."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


@contextmanager
def locked_folder(folder: Path, what: str) -> Iterator[None]:
    """Inside, no other process gets into this block for the folder. A process that dies leaves no lock behind.

    Without file locks of POSIX (Windows) nothing is locked.

    Args:
        what: names the folder in the message, such as a configuration's key.

    Raises:
        ValueError: at once, when another process has it.
    """
    if fcntl is None:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(handle, 200).decode(errors="replace") or "another process"
            raise ValueError(f"{what} {folder} is in use by {owner}; wait for it, or name another folder") from None
        except OSError:
            pass  # a file system without locks
        _held.add(handle)
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        if handle in _held:
            _held.remove(handle)
            with contextlib.suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_UN)  # also for a worker that is being forked
        os.close(handle)


_held: set[int] = set()  # a worker that outlives this process must not keep the lock


def _leave_locks_to_the_parent() -> None:
    for handle in _held:
        os.close(handle)
    _held.clear()


if fcntl is not None:
    os.register_at_fork(after_in_child=_leave_locks_to_the_parent)
