"""What detectron2 0.6 (2021) asks of libraries that have moved on since; for tests alone. To be imported before it."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import PIL.Image


def apply() -> None:
    """Give the old names back."""
    for name, kind in (("bool", bool), ("int", int), ("float", float), ("object", object), ("str", str)):
        if name not in np.__dict__:  # evaluators, and lvis
            setattr(np, name, kind)
    PIL.Image.LINEAR = PIL.Image.BILINEAR
    if "pkg_resources" not in sys.modules and importlib.util.find_spec("pkg_resources") is None:
        stub = ModuleType("pkg_resources")
        stub.resource_filename = _resource_filename
        stub.fixup_namespace_packages = lambda path: None  # pytest calls it where the module is there
        sys.modules["pkg_resources"] = stub
    random.sample = _sample


def _resource_filename(package: str, name: str) -> str:
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None
    return str(Path(spec.origin).parent / name)


_strict_sample = random.sample


def _sample(population: Any, k: int, **options: Any) -> list[Any]:
    """Of a set too, where a mapper gave None."""
    return _strict_sample(list(population) if isinstance(population, set) else population, k, **options)


apply()
