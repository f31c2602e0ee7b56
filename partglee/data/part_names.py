"""Which categories of an annotation file are parts, and of what."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any


def split_part_name(name: str, object_names: Sequence[str] = ()) -> tuple[str, str] | None:
    """`dog:head`, `dog's head` (first `'s`) or `Quadruped Head` (with object_names) -> (object, part); else None."""
    for separator in (":", "'s "):
        before, found, after = name.partition(separator)
        if found and before and after:
            return before, after
    for known in sorted(object_names, key=len, reverse=True):
        if name.casefold().startswith(known.casefold() + " "):
            return known, name[len(known) + 1 :]
    return None


def is_part_category(entry: Mapping[str, Any], object_names: Sequence[str] = ()) -> bool:
    """Level of a COCO category: its `level` ("object", "part"), PACO's `supercategory`, or else how its name splits."""
    level = str(entry.get("level") or entry.get("supercategory") or "")
    if re.fullmatch("object|part", level, re.IGNORECASE):
        return level.lower() == "part"
    return split_part_name(entry["name"], object_names) is not None
