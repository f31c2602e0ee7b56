"""Packages that only exported files need."""

from __future__ import annotations

import importlib
from typing import Any


def needed(package: str) -> Any:
    """A package of the extra `export`.

    Raises:
        ValueError: where it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ValueError(f"{package} is not installed; pip install 'partglee[export]'") from error
