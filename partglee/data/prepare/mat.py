"""MATLAB files with errors that say which file is damaged."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

from scipy.io import loadmat  # type: ignore[import-untyped, unused-ignore]
from scipy.io.matlab import MatReadError  # type: ignore[import-untyped, unused-ignore]

# What scipy's reader raises for files that are cut off, of another kind or of another version.
UNREADABLE = (MatReadError, zlib.error, KeyError, ValueError, TypeError, IndexError, OSError, EOFError,
              NotImplementedError, AttributeError)  # fmt: skip


def load_mat(file: Path, key: str) -> Any:
    """One variable of a `.mat` file, structs as objects with attributes; ValueError when it is not there."""
    if not file.is_file():
        raise ValueError(f"no file {file}; is this the folder of the data set?")
    try:
        return loadmat(file, squeeze_me=True, struct_as_record=False)[key]
    except UNREADABLE as error:
        raise ValueError(f"{file} is not a readable .mat file with {key!r} ({error}); download it again") from error
