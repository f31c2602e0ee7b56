"""The columns that stages exchange, each with a type, so that a pipeline is checked before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from partglee.annotate.sample import Sample
from partglee.basics.names import nearest

SCORES = "region.scores."  # any name may follow: a number in `Region.scores`


@dataclass(frozen=True, slots=True)
class Column:
    """A value of each image, or of each of its regions (`region.NAME`)."""

    type: type | tuple[type, ...]
    meaning: str


COLUMNS: dict[str, Column] = {
    "image": Column(np.ndarray, "pixels (H, W, 3) uint8"),
    "size": Column(tuple, "(H, W)"),
    "vocabulary": Column(dict, "object names of this image with their parts"),
    "descriptions": Column(list, "texts over nodes of the mask tree"),
    "region.name": Column(str, "what it is called"),
    "region.level": Column(str, "object or part"),
    "region.box": Column(tuple, "xyxy pixels"),
    "region.score": Column(float, "how sure its finder is, 0 to 1"),
    "region.mask": Column(Mapping, "run lengths of the image's size"),
    "region.parent": Column(int, "number of the region it belongs to, -1 for none"),
    "region.caption": Column(str, "a text that means it"),
}


def register_column(name: str, column: Column) -> None:
    """Make a column of one's own known; its values lie in `extra` of the sample, or of each region.

    Raises:
        ValueError: for a name that is taken.
    """
    if COLUMNS.get(name, column) != column:
        raise ValueError(f"the column {name!r} is {COLUMNS[name].meaning}; choose another name")
    COLUMNS[name] = column


def known_column(name: str) -> Column:
    """The column of that name.

    Raises:
        ValueError: for an unknown one, with the nearest known names.
    """
    if name.startswith(SCORES) and len(name) > len(SCORES):
        return Column(float, f"the score {name.removeprefix(SCORES)!r}")
    if name not in COLUMNS:
        raise ValueError(
            f"no column {name!r}{nearest(name, COLUMNS) or ';'} known columns: {', '.join(COLUMNS)}, {SCORES}NAME; "
            "partglee.annotate.register_column adds one"
        )
    return COLUMNS[name]


def missing(sample: Sample, names: tuple[str, ...]) -> str | None:
    """What a sample lacks of the columns, in a sentence; None when it has all. Dropped regions need not have them."""
    for name in names:
        column = known_column(name)
        if not name.startswith("region."):
            value = _of(sample, name)
            if not isinstance(value, column.type):
                return f"{name} must be {column.meaning}, got {_told(value)}"
            continue
        for number, region in sample.kept():
            value = region.scores.get(name[len(SCORES) :]) if name.startswith(SCORES) else _of(region, name[7:])
            if not isinstance(value, column.type):
                return f"{name} of region {number} ({region.name!r}) must be {column.meaning}, got {_told(value)}"
    return None


def _of(holder: Any, name: str) -> Any:
    return getattr(holder, name) if name in type(holder).__slots__ else holder.extra.get(name)


def _told(value: Any) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {value!r:.40}"
