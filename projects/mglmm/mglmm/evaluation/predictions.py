"""Predictions files that any system can write, JSON Lines: one line for each record that was asked about.

    {"name": "r1", "size": [H, W], "text": "A dog.", "phrases": [{"span": [2, 5], "segmentation": {"size", "counts"},
     "score": 0.9}], "no_target": false, "teacher_forced": false}

`name` is that of a record of USCDF; `text` is plain, spans are characters of it; no phrase = no target.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mglmm.data import values
from mglmm.data.record import Record
from partglee.basics.files import read_json_lines, whole_file
from partglee.basics.masks import decode, encode_segmentation


class Said(NamedTuple):
    """A phrase of a prediction."""

    text: str
    segmentation: Any
    score: float


@dataclass(frozen=True, slots=True)
class Predicted:
    """One line."""

    name: str
    text: str
    phrases: tuple[Said, ...]
    no_target: bool
    teacher_forced: bool = False

    def masks(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """(N, H, W)."""
        rows = [decode(one.segmentation, *size) for one in self.phrases]
        return np.stack(rows) if rows else np.zeros((0, *size), bool)

    def union(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """(H, W), empty where it says that there is nothing."""
        if self.no_target:
            return np.zeros(size, bool)
        return united(self.masks(size))


def united(masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(N, H, W) -> (H, W), empty for none."""
    union: NDArray[np.bool_] = np.logical_or.reduce(masks, axis=0)
    return union


class Pair(NamedTuple):
    """A record and what was said to it; None: nothing was."""

    record: Record
    said: Predicted | None


def by_name(records: Iterable[Record]) -> dict[str, Record]:
    """Records by their names.

    Raises:
        ValueError: for a name that comes twice: a prediction could not say which of the two it answers.
    """
    known: dict[str, Record] = {}
    for record in records:
        if record.name in known:
            raise ValueError(f"two records are asked about as {record.name!r}; give each a name of its own")
        known[record.name] = record
    return known


def write_predictions(lines: Iterable[tuple[str, Mapping[str, Any]]], file: str | Path) -> int:
    """(record's name, `Answer.to_dict()`) to a file that appears whole. Returns how many.

    Raises:
        ValueError: for a name that comes twice.
    """
    names: set[str] = set()
    with whole_file(Path(file)) as beside, beside.open("w", encoding="utf-8") as stream:
        for name, line in lines:
            if name in names:
                raise ValueError(f"record {name!r} is answered twice; a predictions file has one line for each")
            names.add(name)
            stream.write(json.dumps({"name": name, **line}, ensure_ascii=False) + "\n")
    return len(names)


def read_predictions(file: str | Path, records: Iterable[Record]) -> Iterator[Pair]:
    """Every record with its prediction, in the order of the file; records without one come last.

    Raises:
        ValueError: for a line of another form, a record that is not asked about or comes twice, among the records too,
            or a mask that cannot be read; the message has the line and the record.
    """
    known = by_name(records)
    left = dict(known)
    for number, _, entry in read_json_lines(file, "predictions file"):
        where = f"line {number} of '{file}'"
        try:
            name = values.text(entry["name"], "name")
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{where} has no name of a record ({error!r:.100})") from error
        if name not in known:
            raise ValueError(f"{where}: no record {name!r} is asked about")
        if name not in left:
            raise ValueError(f"{where}: record {name!r} was answered before")
        record = left.pop(name)
        yield Pair(record, predicted_of(entry, record, f"{where}, record {name!r}"))
    for record in left.values():
        yield Pair(record, None)


def predicted_of(entry: Mapping[str, Any], record: Record, where: str = "a prediction") -> Predicted:
    """One line, or `Answer.to_dict()`, for a record; ValueError that begins with `where` for one of another form."""
    try:
        text = values.text(entry.get("text", ""), "text")
        phrases = []
        for row, one in enumerate(values.several(entry.get("phrases", ()), "phrases")):
            start, end = _span_of(one.get("span", (0, 0)), text, f"phrase {row}")
            score = values.number(one.get("score", 1.0), f"the score of phrase {row}")
            encode_segmentation(one["segmentation"], record.size, what=f"phrase {row}")
            phrases.append(Said(text[start:end], one["segmentation"], score))
        none = values.flag(entry.get("no_target", not phrases), "no_target")
        forced = values.flag(entry.get("teacher_forced", False), "teacher_forced")
        return Predicted(record.name, text, tuple(phrases), none, forced)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{where}: {error!r:.160}") from error


def _span_of(span: Any, text: str, what: str) -> tuple[int, int]:
    """Where a phrase stands; an empty one, wherever it is, says that no phrase announces the mask."""
    ends = [values.whole(value, f"each number of the span of {what}") for value in values.several(span, "a span")]
    if len(ends) != 2 or not 0 <= ends[0] <= ends[1] or (ends[0] < ends[1] and ends[1] > len(text)):
        raise ValueError(f"{what} has the span {span!r:.40}, no [start, end] of a text of {len(text)} characters")
    return ends[0], ends[1]
