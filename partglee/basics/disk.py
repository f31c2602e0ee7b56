"""A disk that is full, or will be: known before a file is written where it can be, and told in one line."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class DiskFull(OSError):
    """There is no room for a file; the message names it and the disk."""


@contextmanager
def naming_disk(path: Path) -> Iterator[None]:
    """What is raised inside because the disk of `path` is full comes out as `DiskFull`, whichever library wrote."""
    try:
        yield
    except DiskFull:
        raise
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        texts = ("No space left on device", "PytorchStreamWriter failed writing")  # of libraries that lose the number
        if number in (errno.ENOSPC, errno.EDQUOT) or any(text in str(error) for text in texts):
            raise DiskFull(_no_room(path)) from error
        raise


def check_room(path: Path, size: int) -> None:
    """DiskFull when the disk of `path` has less than `size` bytes free."""
    if shutil.disk_usage(_existing(path)).free < size:
        raise DiskFull(_no_room(path, size))


def check_place(path: Path) -> None:
    """Before minutes of work: whether a file can be written there. Nothing stays.

    Raises:
        ValueError: where it is a folder, or its folder cannot be made or written to.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name a file")
    there = _existing(path.parent)
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise ValueError(f"cannot write {path}: {there} takes no files ({error.strerror})") from error


def _no_room(path: Path, size: int = 0) -> str:
    there = _existing(path)
    mount = there.resolve()
    while not mount.is_mount():
        mount = mount.parent
    needed = f"it needs {size / 1e6:.1f} MB, " if size else ""
    return f"no room for {path} on the disk of {mount}: {needed}{shutil.disk_usage(there).free / 1e6:.1f} MB are free"


def _existing(path: Path) -> Path:
    return next(parent for parent in (path, *path.absolute().parents) if parent.exists())
