"""What stages plug in by name or by `module:attribute`: predictors, segmenters, captioners, scorers."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from partglee.basics.names import nearest


def resolve(name: str, known: Mapping[str, Any], what: str) -> Any:
    """The thing of that name: one that is known, or `package.module:attribute` (`:Class.method` too).

    Raises:
        ValueError: for an unknown name, a module that cannot be imported, or an attribute that it lacks.
    """
    if name in known:
        return known[name]
    module, colon, path = name.partition(":")
    if not colon:
        raise ValueError(
            f"no {what} {name!r}{nearest(name, known) or ';'} known: {', '.join(known)}; or write module:attribute"
        )
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{what} {name!r}: {error}; is the project installed, or on PYTHONPATH?") from error
    return found
