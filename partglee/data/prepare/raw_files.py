"""Files of other programs, read safely: MATLAB files and pickles, with errors that say which one is damaged."""

from __future__ import annotations

import pickle
import zlib
from pathlib import Path
from typing import Any, NoReturn

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


class _PlainUnpickler(pickle.Unpickler):
    """Builds lists, tuples, dicts, numbers, text, bytes, booleans and None, which need no import."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")

    def persistent_load(self, pid: Any) -> NoReturn:
        raise pickle.UnpicklingError(f"it asks for something outside of the file ({pid!r:.40})")


def load_plain_pickle(path: Path) -> Any:
    """What a pickle file holds, if that is plain containers, numbers and text. Python 2's text is read as Latin-1.

    A pickle may name any function to be called while it is read. Here every such name is refused before it is looked
    up, so a file from a stranger can at worst be too large.

    Raises:
        ValueError: for a file that is missing or cut off, or that holds anything else than plain data.
    """
    if not path.is_file():
        raise ValueError(f"{path} does not exist; is the folder the right one?")
    with path.open("rb") as file:
        try:
            return _PlainUnpickler(file, encoding="latin1").load()
        except pickle.UnpicklingError as error:
            raise ValueError(
                f"{path} is not a pickle of plain lists, dicts, numbers and text: {error}; nothing of it was run. "
                "Is it the file of the data set's authors?"
            ) from error
        except (EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
            raise ValueError(f"{path} is not a readable pickle ({error}); copy or download it again") from error
