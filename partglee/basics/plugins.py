"""Projects that add recipes, data sets, readers or protocols: installed ones announce themselves, others are named."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterable
from importlib.metadata import entry_points

GROUP = "partglee.plugins"
_loaded: set[str] = set()


def load_plugins(modules: Iterable[str] = ()) -> None:
    """Import what registers: every entry point of the group `partglee.plugins`, then the named modules.

    An entry point names a module, or a function without arguments that is called. Each is loaded once in a process.
    An installed project that cannot be loaded is warned of, and left out.

    Args:
        modules: of `--import`.

    Raises:
        ValueError: for a named module that cannot be imported.
    """
    for entry in entry_points(group=GROUP):
        if entry.value not in _loaded:
            _loaded.add(entry.value)
            try:
                register = entry.load()
                if callable(register):
                    register()
            except Exception as error:
                warnings.warn(f"the plug-in {entry.name!r} ({entry.value}) is left out: {error!r}", stacklevel=2)
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ValueError(
                f"--import {module}: {error}; install the project, or put its folder on PYTHONPATH"
            ) from error
