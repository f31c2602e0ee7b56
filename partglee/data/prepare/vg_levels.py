"""Which phrases of Visual Genome name parts, and which object each part box belongs to: our own rule.

The lists of object and part phrases that PartGLEE trained with are not public. M boxes, P different phrases.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from partglee.basics.names import humanise
from partglee.structures.known_parts import known_parts
from partglee.structures.vocabulary_files import list_builtin, read_builtin

CONTAINED = 0.5  # share of a box that must lie in a larger one
_PEOPLE = (
    "adult baby batter boy catcher child girl guy kid lady man men people person player rider skateboarder skier "
    "snowboarder surfer woman women"
)
_IRREGULAR = {"feet": "foot", "hooves": "hoof"}


class Levels(NamedTuple):
    """Levels of phrases, parents of boxes."""

    is_part: NDArray[np.bool_]  # (P,)
    parent: NDArray[np.int64]  # (M,) row of the object box; -1 for objects and for parts without one


def derive_levels(
    texts: Sequence[str], phrase: NDArray[np.int64], box: NDArray[np.float64], image_start: NDArray[np.int64]
) -> Levels:
    """Sort phrases into objects and parts.

    A phrase is a part if (1) what it names ("left front wheel", "man's hand", "leg of a chair") is a part name of the
    built-in vocabularies and no object of COCO, and (2) at least half of its boxes lie in a larger box that could be
    their owner: one of a phrase that (1) does not hold for, which holds half of the box or more, and of which the
    built-in vocabularies know this part, or know nothing. The parent of a part box is such an owner among all objects:
    the one that the phrase itself names, else one that is known to have the part, else any; of several the smallest.

    Args:
        texts: P phrases, lower case.
        phrase: (M,) position of each box's phrase in `texts`; boxes of an image stand together.
        box: (M, 4) xywh.
        image_start: (I + 1,) rows of the boxes of each image.
    """
    part_of = [part_name(text) for text in texts]
    candidate = np.array([name is not None for name in part_of], bool)
    contained = np.zeros(len(phrase), bool)
    for row, holders in _holders(box, image_start):
        name = part_of[phrase[row]]
        if name is not None:
            contained[row] = any(
                not candidate[phrase[holder]] and could_own(texts[phrase[holder]], name) for holder in holders
            )
    count = np.bincount(phrase, minlength=len(texts))
    is_part = candidate & (2 * np.bincount(phrase, weights=contained, minlength=len(texts)) >= np.maximum(count, 1))
    parent = np.full(len(phrase), -1, np.int64)
    area = box[:, 2] * box[:, 3]
    for row, holders in _holders(box, image_start):
        name = part_of[phrase[row]]
        if name is None or not is_part[phrase[row]]:
            continue
        objects = [holder for holder in holders if not is_part[phrase[holder]]]
        possible = [holder for holder in objects if could_own(texts[phrase[holder]], name)]
        if possible:
            words = set(re.split(r"\W+", texts[phrase[row]]))
            order = [(*_preference(texts[phrase[holder]], words), float(area[holder])) for holder in possible]
            parent[row] = possible[order.index(min(order))]
    return Levels(is_part, parent)


def _preference(owner: str, words: set[str]) -> tuple[bool, bool]:
    """Sorts first what the part's own phrase names, then what is known to have the part."""
    return owner.split()[-1] not in words, parts_known_of(owner) is None


def _holders(box: NDArray[np.float64], image_start: NDArray[np.int64]) -> Iterator[tuple[int, list[int]]]:
    """(row, rows of the larger boxes of the same image that hold it), of boxes that any does."""
    for first, last in zip(image_start[:-1].tolist(), image_start[1:].tolist(), strict=True):
        low = box[first:last, :2]
        high = low + box[first:last, 2:]
        area = box[first:last, 2] * box[first:last, 3]
        sides = np.minimum(high[:, None], high[None]) - np.maximum(low[:, None], low[None])
        inter = sides.clip(min=0).prod(-1)
        holds = (inter >= CONTAINED * area[:, None]) & (area[None] > area[:, None])
        for row in np.flatnonzero(holds.any(1)).tolist():
            yield first + row, (first + np.flatnonzero(holds[row])).tolist()


@cache
def part_name(text: str) -> str | None:
    """The built-in part name that a phrase names: "car's back wheels" -> "wheel"; None for what is no part."""
    named = text.split(" of ")[0].rpartition("'s ")[2]
    words = named.split()
    for start in range(len(words)):
        for form in _singular(" ".join(words[start:])):
            if form in _known()[1]:
                return None
            if form in _known()[0]:
                return form
    return None


@cache
def parts_known_of(text: str) -> frozenset[str] | None:
    """Part names that the built-in vocabularies have for the object that a phrase names; None when they have none."""
    words = text.split()
    if words and words[-1] in _PEOPLE.split():
        return frozenset(humanise(part) for part in known_parts(["person"])["person"])
    for start in range(len(words)):
        for form in _singular(" ".join(words[start:])):
            if parts := known_parts([form])[form]:
                return frozenset(humanise(part) for part in parts)
    return None


def could_own(text: str, part: str) -> bool:
    """Whether an object may have a part as far as the built-in vocabularies know."""
    known = parts_known_of(text)
    return known is None or part in known


def _singular(text: str) -> list[str]:
    forms = [text]
    first, _, last = text.rpartition(" ")
    if last in _IRREGULAR:
        forms.append(f"{first} {_IRREGULAR[last]}".strip())
    forms += [text[:-cut] for end, cut in (("s", 1), ("es", 2)) if text.endswith(end) and len(text) > cut + 1]
    return forms


@cache
def _known() -> tuple[frozenset[str], frozenset[str]]:
    """Part names of all built-in vocabularies; objects of COCO."""
    parts: set[str] = set()
    for name in list_builtin():
        objects = read_builtin(name).objects
        if isinstance(objects, Mapping):
            parts |= {humanise(part).casefold() for entries in objects.values() for part in entries}
    return frozenset(parts), frozenset(read_builtin("coco").objects)
