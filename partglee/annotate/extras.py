"""The one gate to libraries that the core does without: pyarrow for tables, ray for clusters."""

from __future__ import annotations

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
