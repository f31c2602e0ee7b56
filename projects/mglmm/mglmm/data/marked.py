"""Plain text with spans, and the text of answers with its marks: `A <p> dog </p> [SEG] on grass.` and back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from mglmm.tokens import CLOSE, OPEN, SEG

_MARK = re.compile(rf"\s*({re.escape(OPEN)}|{re.escape(CLOSE)}|{re.escape(SEG)})")


class Span(NamedTuple):
    """A phrase of a text, and the mask that it means."""

    start: int  # characters of the plain text
    end: int
    mask: int  # row of the masks


class Parsed(NamedTuple):
    """An answer without its marks."""

    text: str
    spans: tuple[Span, ...]  # one for each [SEG], in order; an empty one where no phrase announces it
    well_formed: bool  # every [SEG] directly behind a phrase of its own, every phrase before a [SEG], no stray mark


def with_marks(text: str, spans: Sequence[Span]) -> str:
    """The text as it is said: each phrase announced, and the mask after it. Spaces at the ends of a span stay outside
    of the marks, or words would run together when they are taken out."""
    said, last = [], 0
    for span in sorted(spans):
        inside = text[span.start : span.end]
        start = span.start + len(inside) - len(inside.lstrip())
        end = start + len(inside.strip())
        said += [text[last:start], f"{OPEN} {text[start:end]} {CLOSE} {SEG}"]
        last = end
    return "".join([*said, text[last:]])


def parse(said: str, *, first_mask: int = 0) -> Parsed:
    """Take the marks out of an answer, whatever a model wrote.

    Args:
        first_mask: row of the first [SEG]'s mask; the k-th [SEG] means the k-th mask.
    """
    pieces: list[str] = []
    length = last = 0
    opened: int | None = None
    phrase: tuple[int, int] | None = None  # closed, not yet used
    spans: list[Span] = []
    well = True
    for match in _MARK.finditer(said):
        between = said[last : match.start()]
        last = match.end()
        mark = match.group(1)
        if mark == OPEN:
            between += match.group(0)[: -len(OPEN)]  # the space before a phrase belongs to the text
        elif opened is not None and length == opened:
            between = between.lstrip()
        if between.strip() and phrase is not None:
            phrase, well = None, False  # something stands between a phrase and its mask
        pieces.append(between)
        length += len(between)
        if mark == OPEN:
            well &= opened is None and phrase is None
            opened = length
        elif mark == CLOSE:
            well &= opened is not None and length > opened
            phrase = None if opened is None else (opened, length)
            opened = None
        else:
            well &= phrase is not None and opened is None
            start, end = phrase or (length, length)
            spans.append(Span(start, end, first_mask + len(spans)))
            phrase = None
        if mark == OPEN and last < len(said) and said[last] == " ":
            last += 1
    well &= opened is None and phrase is None
    text = "".join([*pieces, said[last:]])
    lead = len(text) - len(text.lstrip())
    moved = tuple(Span(max(s.start - lead, 0), max(s.end - lead, 0), s.mask) for s in spans)
    return Parsed(text.strip(), moved, well)
