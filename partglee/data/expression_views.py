"""Data sets with expressions, seen as training draws from them: what one sample speaks of is one row.

A view is a `Records` of its own, so samplers, workers and resume stay what they are.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from partglee.data.expression_rules import ExpressionRules, make_expressions
from partglee.data.images import read_image
from partglee.data.mapper import means_one_object, read_annotated, single_targets
from partglee.data.records import ImageRecord, Records

_log = logging.getLogger(__name__)


class RecordRows:
    """Rows of a data set, repeated or left out.

    Args:
        records: the data set.
        rows: place in `records` of each row.
    """

    def __init__(self, records: Records, rows: Sequence[int]) -> None:
        self.records = records
        self.rows = rows if isinstance(rows, range) else tuple(rows)
        self.vocabulary = records.vocabulary

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> ImageRecord:
        return self.records[self.rows[index]]

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) as the annotations say."""
        return self.records.size(self.rows[index])

    def labels(self, index: int) -> tuple[frozenset[int], frozenset[int]]:
        """Object and part labels of the image."""
        return self.records.labels(self.rows[index])


class KeptRows(RecordRows):
    """Rows of a data set whose other rows are left out; what it says of all its rows stays."""

    _OF_ALL = ("category_ids", "has_masks", "ignore")

    def __getattr__(self, name: str) -> Any:
        if name not in self._OF_ALL:
            raise AttributeError(name)
        return getattr(self.records, name)


def kept_rows(records: Records, left_out: Collection[int]) -> tuple[Records, dict[int, int]]:
    """A data set without some rows, and old row -> new row of the others."""
    rows = [row for row in range(len(records)) if row not in left_out]
    narrowed = getattr(records, "narrowed", None)
    return narrowed(rows) if narrowed else KeptRows(records, rows), {row: place for place, row in enumerate(rows)}


class FirstRows(RecordRows):
    """The first images of a data set; which of them have expressions stays known where it was."""

    def __init__(self, records: Records, count: int) -> None:
        super().__init__(records, range(count))

    def __getattr__(self, name: str) -> Any:
        if name != "rows_with_expressions":
            raise AttributeError(name)
        known = getattr(self.records, name)
        return lambda: [row for row in known() if row < len(self)]


class SingleTargets(RecordRows):
    """One row for each object that is meant alone, with the sentences that mean it: what PartGLEE trains on.

    Expressions that mean several things or nothing, parts or crowds are skipped and counted in `skipped`, and so are
    images, in `silent`, of which no sentence is left: their objects would be learned as if nothing were said of them.
    """

    def __init__(self, records: Records) -> None:
        rows: list[int] = []
        self._target: list[int] = []
        self.skipped = 0
        for row in rows_with_expressions(records):
            record = records[row]
            told = single_targets(record)
            self.skipped += len(record.expressions) - sum(map(len, told.values()))
            rows += [row] * len(told)
            self._target += told
        self.silent = len(records) - len(set(rows))
        super().__init__(records, rows)

    def __getitem__(self, index: int) -> ImageRecord:
        record, target = super().__getitem__(index), self._target[index]
        said = tuple(said for said in record.expressions if said.objects == (target,) and not said.parts)
        return replace(record, expressions=said)


class OnTheWay(RecordRows):
    """Every image with the expressions that can be used; an image that has none gives its place to the next.

    For data sets that draw, or look at their images, before they know their expressions.

    Args:
        usable: places of the expressions of a record that can be used.
    """

    _TRIES = 100

    def __init__(self, records: Records, usable: Callable[[ImageRecord], Sequence[int]]) -> None:
        super().__init__(records, range(len(records)))
        self.usable = usable

    def __getitem__(self, index: int) -> ImageRecord:
        for step in range(min(self._TRIES, len(self))):
            record = super().__getitem__((index + step) % len(self))
            places = self.usable(record)
            if places:
                return replace(record, expressions=tuple(record.expressions[place] for place in places))
        raise ValueError(f"{self._TRIES} images in a row have no expression that can be used")


def alone(record: ImageRecord) -> list[int]:
    """Places of the expressions that mean one object and no part, and no crowd."""
    return [place for place, said in enumerate(record.expressions) if means_one_object(said, record)]


def no_crowds(record: ImageRecord, level: str = "both") -> list[int]:
    """Places of the expressions that mean more than crowds, or nothing.

    Args:
        level: "part" = only those that mean parts; "object" = only the others, of nothing among them.
    """
    return [
        place
        for place, said in enumerate(record.expressions)
        if (said.no_target or not all(thing.crowd for thing in record.targets(said)))
        and (level == "both" or said.of_parts == (level == "part"))
    ]


class Expressions(RecordRows):
    """One row for each group of up to `most` expressions of one image, in file order.

    With `most` 1 each expression is its own sample, and an epoch shows each once. Images without any are left out;
    expressions of crowds alone or of the other level are too, and are counted in `skipped`.

    Args:
        level: as for `no_crowds`.
    """

    def __init__(self, records: Records, *, most: int = 1, level: str = "both") -> None:
        if most < 1:
            raise ValueError(f"a sample shows at least one expression, got {most}")
        rows: list[int] = []
        self._places: list[tuple[int, ...]] = []
        self.skipped = 0
        for row in rows_with_expressions(records):
            record = records[row]
            places = no_crowds(record, level)
            self.skipped += len(record.expressions) - len(places)
            groups = [tuple(places[first : first + most]) for first in range(0, len(places), most)]
            rows += [row] * len(groups)
            self._places += groups
        super().__init__(records, rows)

    def __getitem__(self, index: int) -> ImageRecord:
        record = super().__getitem__(index)
        return replace(record, expressions=tuple(record.expressions[place] for place in self._places[index]))


class RuleExpressions(RecordRows):
    """A data set with the expressions that rules make of it, in place of its own; the same ones each time.

    Images are read for their colours, and go on with the record, so that they are not read again.
    """

    def __init__(self, records: Records, *, rules: ExpressionRules | None = None) -> None:
        super().__init__(records, range(len(records)))
        self.rules = rules or ExpressionRules()

    def __getitem__(self, index: int) -> ImageRecord:
        record = super().__getitem__(index)
        pixels = None
        if 0 in (record.height, record.width):
            pixels = read_image(record.source)
            record = replace(record, height=pixels.shape[0], width=pixels.shape[1])
        elif self.rules.colors:
            pixels = read_annotated(record)
        rng = np.random.default_rng([self.rules.seed, index])
        said = make_expressions(record, self.vocabulary, rng, rules=self.rules, pixels=pixels)
        return replace(record, expressions=said, pixels=record.pixels if pixels is None else pixels)


def listed(records: Records) -> bool:
    """Whether a data set knows which images have expressions, without reading or drawing them all."""
    return hasattr(records, "rows_with_expressions")


def rows_with_expressions(records: Records) -> Sequence[int]:
    """Images that have expressions. Of records that do not know, the first stands for all: looking may mean to draw."""
    known = getattr(records, "rows_with_expressions", None)
    if known is not None:
        told: Sequence[int] = known()
        return told
    return [row for row in range(min(1, len(records))) if records[row].expressions]


def single_target_view(records: Records, *, name: str) -> Records:
    """What PartGLEE draws from a data set: `SingleTargets` of one with expressions, any other as it is.

    Raises:
        ValueError: when no expression means one object alone.
    """
    if not rows_with_expressions(records):
        return records
    if not listed(records):
        return OnTheWay(records, alone)
    view = SingleTargets(records)
    if not len(view):
        raise ValueError(f"data set {name!r}: none of its {view.skipped} expressions means one object alone")
    if view.skipped:
        _log.info("%s: %d expressions of several targets, parts, crowds or none are skipped", name, view.skipped)
    if view.silent:
        _log.info("%s: %d of %d images, of which nothing else is said, are left out", name, view.silent, len(records))
    return view


def first_share(records: Records, share: float) -> Records:
    """The images that `DATASETS.SHARE` leaves, at least one: smaller shares are parts of larger ones."""
    return records if share == 1 else FirstRows(records, max(1, round(share * len(records))))


def expression_view(records: Records, *, name: str, most: int, level: str = "both") -> Records:
    """What models for any expression draw from a data set: each expression, or groups of up to `most` of an image.

    Args:
        level: "object" or "part": expressions of this level alone.

    Raises:
        ValueError: when it has no expression, or none of the level.
    """
    if not rows_with_expressions(records):
        raise ValueError(
            f"data set {name!r} has no referring expressions; take it out of DATASETS.TRAIN, or make them by rule "
            "(EXPRESSIONS: rules)"
        )
    if not listed(records):
        return OnTheWay(records, partial(no_crowds, level=level))
    view = Expressions(records, most=most, level=level)
    if not len(view):
        raise ValueError(
            f"data set {name!r}: none of its {view.skipped} expressions can be trained on with "
            f"INPUT.TRAIN.LEVELS {level!r}"
        )
    if view.skipped:
        _log.info("%s: %d expressions of crowds alone, or of another level, are skipped", name, view.skipped)
    return view
