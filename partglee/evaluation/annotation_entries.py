"""Whether the lists of an annotation file hold what is needed, with values of the types that the format has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

_KEYS = {"images": ("id",), "annotations": ("image_id", "category_id"), "categories": ("id", "name")}
_TYPES: dict[tuple[str, str], Any] = {("categories", "name"): str, ("annotations", "id"): (int, np.integer, str)}
_IDS = (int, float, np.integer)
_LISTS: dict[str, tuple[tuple[str, Any, str], ...]] = {
    "images": (("neg_category_ids", _IDS, "category ids"), ("not_exhaustive_category_ids", _IDS, "category ids")),
    "annotations": (),
    "categories": (("owners", str, "names"),),
}


def check_entries(entries: Any, key: str) -> None:
    """ValueError for a list whose entries have not the keys that are needed, or values of another type."""
    if not isinstance(entries, (list, tuple)):
        raise ValueError(f"{key!r} of the annotations must be a list, got {entries!s:.40}")
    if _are_usual(entries, key):
        return
    for place, entry in enumerate(entries):
        missing = [name for name in _KEYS[key] if not isinstance(entry, Mapping) or name not in entry]
        if missing:
            raise ValueError(f"entry {place} of {key!r} has no {missing[0]!r}: {entry!s:.60}")
        for name in {*_KEYS[key], "id"} & set(entry):
            good = isinstance(entry[name], _TYPES.get((key, name), (int, np.integer)))
            if not good or (not isinstance(entry[name], str) and abs(int(entry[name])) >= 1 << 63):
                what = "text" if name == "name" else "a whole number of at most 63 bits"
                raise ValueError(f"entry {place} of {key!r}: {name!r} must be {what}, got {entry[name]!s:.40}")
        for name, kind, what in _LISTS[key]:
            values = entry.get(name, ())
            listed = isinstance(values, (list, tuple, set, frozenset)) or (values is None and kind is not str)
            if not listed or not all(isinstance(value, kind) for value in values or ()):
                raise ValueError(f"entry {place} of {key!r}: {name!r} must be a list of {what}, got {values!s:.40}")


def _are_usual(entries: Sequence[Any], key: str) -> bool:
    """Whether nothing is wrong, by column: a quick look, after which what it does not know is looked at one by one."""
    if not set(map(type, entries)) <= {dict}:
        return False
    for name in {*_KEYS[key], "id"}:
        needed = name in _KEYS[key]
        values = [entry.get(name) if needed else entry[name] for entry in entries if needed or name in entry]
        kinds = set(map(type, values))
        if (key, name) == ("categories", "name"):
            if not kinds <= {str}:
                return False
        elif not kinds <= {int} or max(map(abs, values), default=0) >= 1 << 63:
            return False
    for name, kind, _ in _LISTS[key]:
        lists = [entry[name] for entry in entries if name in entry]
        wanted = {str} if kind is str else {int}
        if not (set(map(type, lists)) <= {list} and set(map(type, chain.from_iterable(lists))) <= wanted):
            return False
    return True
