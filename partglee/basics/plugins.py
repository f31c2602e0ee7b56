"""Projects that add recipes, data sets, readers or protocols: installed ones announce themselves, others are named."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path

GROUP = "partglee.plugins"
_loaded: set[str] = set()


def load_plugins(modules: Iterable[str] = ()) -> None:
    """Import what registers: every entry point of the group `partglee.plugins`, then the named modules.

    An entry point names a module, or a function without arguments that is called. Each is loaded once in a process.
    An installed project that cannot be loaded is warned of, and left out.

    Args:
        modules: of `--import`: names of modules, or files (`street.py`), whose folder then is on the path.

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
            importlib.import_module(_module_name(module))
        except ImportError as error:
            raise ValueError(
                f"--import {module}: {error}; install the project, or put its folder on PYTHONPATH"
            ) from error


def _module_name(module: str) -> str:
    """The name that a module or a file is imported by, also in processes that are started later."""
    if not module.endswith(".py"):
        return module
    file = Path(module).expanduser().resolve()
    if not file.is_file() or not file.stem.isidentifier():
        what = "is not there" if not file.is_file() else "has a name that is none of a module"
        raise ValueError(f"--import {module}: the file {what}; name a file of Python code, or a module")
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))  # behind all others: the file must not hide a library
    loaded = sys.modules.get(file.stem)
    if loaded is not None and Path(str(getattr(loaded, "__file__", ""))).resolve() != file:
        raise ValueError(f"--import {module}: a module {file.stem!r} is loaded already; give the file another name")
    return file.stem
