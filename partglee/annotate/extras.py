"""The one gate to libraries that the core does without: pyarrow and lance for tables, ray for clusters."""

from __future__ import annotations

import os
from typing import Any


def pyarrow() -> Any:
    """The module.

    Raises:
        ValueError: when it is not installed, with what to do.
    """
    try:
        import pyarrow as module
    except ImportError as error:
        raise ValueError(
            "Parquet needs pyarrow: pip install 'partglee[annotate]'; or write `tables: jsonl` in the recipe"
        ) from error
    return module


def pyarrow_parquet() -> Any:
    """The module `pyarrow.parquet`; ValueError as for `pyarrow`."""
    pyarrow()
    from pyarrow import parquet

    return parquet


def of_tables(form: str) -> None:
    """Load what tables of this form need: seconds, better before anything is timed.

    Raises:
        ValueError: when it is not installed.
    """
    if form == "lance":
        lance()
    elif form == "parquet":
        pyarrow_parquet()


def lance() -> Any:
    """The module, of the package `pylance`.

    Raises:
        ValueError: when it is not installed, with what to do.
    """
    pyarrow()
    os.environ.setdefault("LANCE_LOG", "error")  # it warns of every new data set
    try:
        import lance as module
        import lance.file
        import lance.fragment
    except ImportError as error:
        raise ValueError(
            f"Lance needs pylance ({error}): pip install 'partglee[lance]'; or write `tables: parquet` in the recipe"
        ) from error
    return module


def ray() -> Any:
    """The module.

    Raises:
        ValueError: when it is not installed, with what to do.
    """
    try:
        import ray as module
        import ray.data
    except ImportError as error:
        raise ValueError(
            f"--engine ray needs Ray ({error}): pip install 'partglee[ray]'; or run with --engine local"
        ) from error
    return module
