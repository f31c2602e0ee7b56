"""Whether what a system calls a box is one."""

from __future__ import annotations

import math
from typing import Any


def wrong_box(box: Any) -> tuple[str, str] | None:
    """The kind of issue and what is wrong with an xywh box; None when nothing is. A side of 0 is allowed."""
    try:
        wrong = len(box) != 4 or not all(map(is_finite, box))
    except TypeError:  # no list
        wrong = True
    if wrong:
        return "box not finite", f"bbox must be four finite numbers xywh, got {box!r}"
    if box[2] < 0 or box[3] < 0:
        return "box of negative size", f"bbox must be x, y, width and height, not two corners, got {list(box)!r}"
    return None


def is_finite(value: Any) -> bool:
    """Whether something is a number that is neither NaN nor infinite."""
    try:
        return math.isfinite(value)
    except (TypeError, OverflowError):  # None or text; a whole number beyond all floats
        return False
