"""What annotations say of what belongs to what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def parent_of(entry: Mapping[str, Any]) -> Any:
    """Id of the annotation that this one names, as readers take it: None where it names none, 0 or itself."""
    link = entry.get("parent_id")
    if link is None:
        link = entry.get("obj_ann_id")
    return None if link in (None, 0, entry.get("id")) else link


def is_own_parent(entry: Mapping[str, Any]) -> bool:
    links = (entry.get("parent_id"), entry.get("obj_ann_id"))
    return next((link for link in links if link is not None), None) == entry.get("id")


def circles(good: Mapping[Any, Mapping[str, Any]]) -> list[list[Any]]:
    """Ids that lead up to themselves, each circle once."""
    found: list[list[Any]] = []
    walk_of: dict[Any, Any] = {}  # id -> where the walk began that came by first
    for start in good:
        path: list[Any] = []
        key = start
        while key not in walk_of:
            walk_of[key] = start
            path.append(key)
            above = parent_of(good[key])
            if not isinstance(above, int) or above not in good:
                break
            key = above
        else:
            if walk_of[key] == start:
                found.append(path[path.index(key) :])
    return found


def containment(part: Any, parent: Any) -> float:
    """Intersection over the area of the part, boxes xywh."""
    width = min(part[0] + part[2], parent[0] + parent[2]) - max(part[0], parent[0])
    height = min(part[1] + part[3], parent[1] + parent[3]) - max(part[1], parent[1])
    return float(max(width, 0) * max(height, 0) / (part[2] * part[3]))
