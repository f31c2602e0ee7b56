"""COCO result rows as columns: what nearly every file has, without an object for each row.

A row is *plain* when its keys have the types that this module declares, its score and box are finite and no side of
the box is negative. Every other row (polygons, run lengths as a list, numbers as text, damage of any kind) stays a
dict, which `DetectionBuffer` looks at by itself: there are the messages.

N rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from partglee.evaluation.run_lengths import RunLengths

Key = int | str | None


class _Mask(msgspec.Struct, gc=False):
    size: tuple[int, int]
    counts: str


class _Row(msgspec.Struct, gc=False):
    category_id: int
    score: float
    bbox: tuple[float, float, float, float] | None = None
    segmentation: _Mask | None = None
    id: Key = None
    parent_id: Key = None


class _FileRow(_Row, kw_only=True, gc=False):
    image_id: int


_FILE_ROWS: msgspec.json.Decoder[list[_FileRow]] = msgspec.json.Decoder(list[_FileRow])
_NO_SIZE = -1


@dataclass(frozen=True, kw_only=True)
class ResultRows:
    """Plain rows."""

    category: NDArray[np.int64]  # (N,) category ids
    score: NDArray[np.float64]  # (N,)
    boxes: NDArray[np.float64]  # (N, 4) xywh pixels; NaN without
    sizes: NDArray[np.int32]  # (N, 2) height and width that the mask says; -1 without
    masks: RunLengths  # N
    ids: Sequence[Key] | None  # N; None: no row has one
    parents: Sequence[Key] | None  # N ids of other rows; None: no row has one

    def __len__(self) -> int:
        return len(self.score)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The rows as a file has them."""
        for row, counts in enumerate(self.masks):
            entry: dict[str, Any] = {"category_id": int(self.category[row]), "score": float(self.score[row])}
            if not np.isnan(self.boxes[row, 0]):
                entry["bbox"] = self.boxes[row].tolist()
            if counts is not None:
                entry["segmentation"] = {"size": self.sizes[row].tolist(), "counts": counts.decode()}
            if self.ids is not None and self.ids[row] is not None:
                entry["id"] = self.ids[row]
            if self.parents is not None and self.parents[row] is not None:
                entry["parent_id"] = self.parents[row]
            yield entry

    @classmethod
    def joined(cls, parts: Sequence[ResultRows], masks: RunLengths) -> ResultRows:
        """All rows of several, whose masks are one already."""
        columns: dict[str, Any] = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("category", "score", "boxes", "sizes")
        }
        for name in ("ids", "parents"):
            keys = [getattr(part, name) for part in parts]
            said = [own or [None] * len(part) for own, part in zip(keys, parts, strict=True)]
            columns[name] = list(chain.from_iterable(said)) if any(own is not None for own in keys) else None
        return cls(**columns, masks=masks)

    def select(self, rows: NDArray[np.int64] | slice) -> ResultRows:
        """Some rows."""
        return ResultRows(
            category=self.category[rows], score=self.score[rows], boxes=self.boxes[rows], sizes=self.sizes[rows],
            masks=self.masks.select(rows), ids=_some(self.ids, rows), parents=_some(self.parents, rows),
        )  # fmt: skip


def _some(keys: Sequence[Key] | None, rows: NDArray[np.int64] | slice) -> Sequence[Key] | None:
    if keys is None:
        return None
    chosen = keys[rows] if isinstance(rows, slice) else [keys[row] for row in rows.tolist()]
    return None if all(key is None for key in chosen) else chosen


def plain_rows(rows: Sequence[Mapping[str, Any]]) -> ResultRows | None:
    """Rows of one image as columns; None when one of them is not plain."""
    try:
        return _columns(msgspec.convert(rows, list[_Row]))
    except (msgspec.ValidationError, ValueError, TypeError, OverflowError, RecursionError):
        return None


def plain_rows_of_json(text: bytes) -> tuple[NDArray[np.int64], ResultRows] | None:
    """Image ids and columns of a JSON list of results; None when one is not plain, or the text is not JSON."""
    try:
        if not text.isascii():
            text.decode()  # the parser does not look at texts that it has no use for
        rows = _FILE_ROWS.decode(text)
        columns = _columns(rows)
        return None if columns is None else (np.array([row.image_id for row in rows], np.int64), columns)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
        return None


def _columns(rows: Sequence[_Row]) -> ResultRows | None:
    count = len(rows)
    score = np.array([row.score for row in rows], np.float64)
    found = [row.bbox for row in rows]
    boxes = np.full((count, 4), np.nan)
    with_box = [place for place, box in enumerate(found) if box is not None]
    if with_box:
        given = np.array([found[place] for place in with_box], np.float64)
        if not np.isfinite(given).all() or (given[:, 2:] < 0).any():
            return None
        boxes[with_box] = given
    if not np.isfinite(score).all():
        return None
    sizes, masks = _masks([row.segmentation for row in rows])
    ids, parents = [row.id for row in rows], [row.parent_id for row in rows]
    return ResultRows(
        category=np.array([row.category_id for row in rows], np.int64), score=score, boxes=boxes, sizes=sizes,
        masks=masks, ids=None if set(ids) <= {None} else ids, parents=None if set(parents) <= {None} else parents,
    )  # fmt: skip


def _masks(found: Sequence[_Mask | None]) -> tuple[NDArray[np.int32], RunLengths]:
    """(N, 2) sizes and N run lengths. UnicodeEncodeError, a ValueError, for characters that no run lengths have."""
    given = [mask for mask in found if mask is not None]
    counts = [mask.counts for mask in given]
    text = bytearray("".join(counts), "ascii")
    length = np.full(len(found), -1, np.int32)
    sizes = np.full((len(found), 2), _NO_SIZE, np.int32)
    there = slice(None) if len(given) == len(found) else [row for row, mask in enumerate(found) if mask is not None]
    length[there] = np.fromiter(map(len, counts), np.int32, len(counts))
    said = {mask.size for mask in given}
    if len(said) == 1:
        sizes[there] = said.pop()
    elif said:
        sizes[there] = [mask.size for mask in given]
    return sizes, RunLengths.packed(text, length)
