"""Values of JSON as what they must be: nothing else is turned into text, cut to a whole number or taken for true.

Every function raises a ValueError that begins with `what` for a value of another kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from partglee.basics.masks import is_finite


def text(value: Any, what: str) -> str:
    """A str; no number, and no null, which would become the word "None"."""
    if not isinstance(value, str):
        raise ValueError(f"{what} must be text, got {value!r:.60}")
    return value


def flag(value: Any, what: str) -> bool:
    """true or false; the text "false" would be taken for true."""
    if not isinstance(value, bool):
        raise ValueError(f"{what} must be true or false without quotes, got {value!r:.60}")
    return value


def number(value: Any, what: str) -> float:
    """A finite number."""
    if isinstance(value, (bool, str)) or not is_finite(value):
        raise ValueError(f"{what} must be a finite number, got {value!r:.60}")
    return float(value)


def whole(value: Any, what: str) -> int:
    """A whole number; 20.0 is one, 20.9 and "20" are none."""
    if isinstance(value, (bool, str)) or not is_finite(value) or int(value) != value:
        raise ValueError(f"{what} must be a whole number, got {value!r:.60}")
    return int(value)


def size(value: Any, what: str = "size") -> tuple[int, int]:
    """(height, width), at least 1 each."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise ValueError(f"{what} must be [height, width], got {value!r:.60}")
    height, width = (whole(side, f"each side of {what}") for side in value)
    if height < 1 or width < 1:
        raise ValueError(f"{what} must be [height, width] of at least one pixel, got {value!r:.60}")
    return height, width


def several(value: Any, what: str) -> list[Any]:
    """A list."""
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{what} must be a list, got {value!r:.60}")
    return list(value)


def objects(content: Mapping[str, Any], key: str, what: str) -> list[Mapping[str, Any]]:
    """The list of objects that a file has under a key."""
    if key not in content:
        raise ValueError(f"{what} has no {key!r}; it has {', '.join(map(str, content))[:60] or 'nothing'}")
    entries = several(content[key], f"{key!r} of {what}")
    if wrong := [row for row, one in enumerate(entries) if not isinstance(one, Mapping)]:
        raise ValueError(f"{what}: entry {wrong[0]} of {key!r} must be an object, got {entries[wrong[0]]!r:.60}")
    return entries
