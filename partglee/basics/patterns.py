"""Patterns of file names that end, whatever links a folder has."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def matches(pattern: str | Path) -> list[Path]:
    """What a pattern such as `photos/**/*.jpg` means, sorted, each name once.

    `**` goes into folders that are links too, but into none that it came through: there the pattern would come by the
    same files again and again under longer and longer names. Hidden folders are left out, as the shell does.
    """
    parts = Path(pattern).parts
    if "**" not in parts:
        return sorted(map(Path, glob.glob(str(pattern))))
    place = parts.index("**")
    rest = Path(*parts[place + 1 :]) if len(parts) > place + 1 else Path("*")
    found: dict[Path, None] = {}
    for top in glob.glob(str(Path(*parts[:place])) if place else "."):
        for folder in _folders(top, ()):
            found.update(dict.fromkeys(matches(Path(glob.escape(folder)) / rest)))
    return sorted(found)


def _folders(folder: str, above: tuple[str, ...]) -> Iterator[str]:
    """A folder and all below it, but none that it lies in, whose real paths are `above`."""
    real = os.path.realpath(folder)
    if real in above or not os.path.isdir(folder):
        return
    yield folder
    with suppress(PermissionError), os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if not entry.name.startswith(".") and entry.is_dir():
                yield from _folders(os.path.join(folder, entry.name), (*above, real))
