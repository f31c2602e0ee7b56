"""One image of an input list."""

from __future__ import annotations

from typing import Any, NamedTuple


class Item(NamedTuple):
    """Its id, what a person calls it, and how to read it."""

    image_id: str
    file: str
    how: dict[str, Any]  # JSON
