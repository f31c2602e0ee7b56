"""COCO and LVIS results files in pieces: parsed, made columns, let go.

A results file of a gigabyte would be many as dicts. Pieces end between two results. Such a place is found without a
parser: where the text before it is a whole list of results, no bracket and no quotation mark is open.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from partglee.basics.files import JSON_ERRORS
from partglee.evaluation.result_rows import ResultRows, plain_rows_of_json
from partglee.evaluation.run_lengths import RunLengths

Rows = ResultRows | list[dict[str, Any]]

_PIECE = 1 << 18  # bytes: a piece's objects stay in the caches
_LARGEST = 32 * _PIECE  # where no end is found in so much, the file is read as a whole
_BETWEEN = re.compile(rb"\}[ \t\n\r]*,[ \t\n\r]*\{")
_NEAR_THE_END = (1 << 12, 1 << 16)  # bytes, where an end is looked for first
_TRIES = 8  # of ends of a piece: a result may have lists of objects, and texts that look like an end
_SPACE = b" \t\n\r"
_NO_MASKS = RunLengths.of([])


def read_image_rows(path: Path) -> Iterator[tuple[Any, Rows]] | None:
    """(image id, rows) in the order in which images come first; rows of one image may stand anywhere in the file.

    Returns:
        None for a file that is no JSON list of results with an image, and for one in which no ends of pieces are found.
    """
    content = _Content()
    for piece in _pieces(path):
        if piece is None or not content.add(piece):
            return None
    return content.by_image()


class _Content:
    """What pieces of a file hold."""

    def __init__(self) -> None:
        self.count = 0
        self.first: dict[Any, int] = {}  # image id -> place of its first row in the file
        self.plain: list[ResultRows] = []  # without their masks
        self.text = bytearray()  # of the masks: one that grows is never there twice
        self.lengths: list[NDArray[np.int32]] = []
        self.images: list[NDArray[np.int64]] = []  # image ids of the plain rows
        self.places: list[NDArray[np.int64]] = []  # of the plain rows in the file
        self.others: dict[Any, list[tuple[int, dict[str, Any]]]] = {}  # image id -> place in the file, row

    def add(self, piece: _Piece) -> bool:
        """Whether every result has an image."""
        if isinstance(piece, list):
            for place, entry in enumerate(piece, start=self.count):
                if not isinstance(entry, dict) or isinstance(entry.get("image_id"), (type(None), list, dict)):
                    return False
                self.first.setdefault(entry["image_id"], place)
                self.others.setdefault(entry["image_id"], []).append((place, entry))
            self.count += len(piece)
            return True
        images, rows = piece
        self.plain.append(replace(rows, masks=_NO_MASKS))
        self.text += rows.masks.text
        self.lengths.append(rows.masks.length)
        self.images.append(images)
        self.places.append(np.arange(self.count, self.count + len(rows)))
        ids, begin = np.unique(images, return_index=True)
        for key, place in zip(ids.tolist(), (begin + self.count).tolist(), strict=True):
            self.first.setdefault(key, place)
        self.count += len(rows)
        return True

    def by_image(self) -> Iterator[tuple[Any, Rows]]:
        if not self.plain:
            yield from ((key, [entry for _, entry in rows]) for key, rows in self.others.items())
            return
        images, places = np.concatenate(self.images), np.concatenate(self.places)
        rows = ResultRows.joined(self.plain, RunLengths.packed(self.text, np.concatenate(self.lengths)))
        if (images[1:] < images[:-1]).any():
            order = np.argsort(images, kind="stable")
            images, places, rows = images[order], places[order], rows.select(order)
        begin = np.flatnonzero(np.diff(images, prepend=images[:1] - 1))
        ends = np.append(begin, len(images))[1:]
        spans = dict(zip(images[begin].tolist(), zip(begin.tolist(), ends.tolist(), strict=True), strict=True))
        for key in sorted(self.first, key=self.first.__getitem__):
            own = slice(*spans.get(key, (0, 0)))
            if key not in self.others:
                yield key, rows.select(own)
            else:
                merged = chain(zip(places[own].tolist(), rows.select(own), strict=True), self.others[key])
                yield key, [entry for _, entry in sorted(merged, key=lambda row: row[0])]


_Piece = tuple[NDArray[np.int64], ResultRows] | list[Any]  # image ids and columns, or what the parser makes of it


def _pieces(path: Path) -> Iterator[_Piece | None]:
    """The list in a file, piece by piece; None, the last, where it is no list or its pieces are not found."""
    with path.open("rb") as stream:
        text = stream.read(_PIECE).removeprefix(codecs.BOM_UTF8).lstrip(_SPACE)
        if not text.startswith(b"["):
            yield None
            return
        text = text[1:]
        while more := stream.read(_PIECE):
            text += more
            for end in _ends(text):
                piece = _parsed(text[:end])
                if piece is not None:
                    yield piece
                    text = text[end:].lstrip(_SPACE)[1:]  # without the comma
                    break
            if len(text) > _LARGEST:
                yield None
                return
    text = text.rstrip(_SPACE)
    yield _parsed(text[:-1]) if text.endswith(b"]") else None


def _ends(text: bytes) -> list[int]:
    """Where a result seems to end before another one, the last first."""
    for near in (*_NEAR_THE_END, len(text)):
        ends = [found.start() + 1 for found in _BETWEEN.finditer(text, max(0, len(text) - near))]
        if ends:
            return ends[: -_TRIES - 1 : -1]
    return []


def _parsed(text: bytes) -> _Piece | None:
    """The results in a part of a list; None where it is not whole results."""
    text = b"[" + text + b"]"
    found = plain_rows_of_json(text)
    if found is not None:
        return found
    try:
        return list(json.loads(text.decode()))
    except JSON_ERRORS:
        return None
