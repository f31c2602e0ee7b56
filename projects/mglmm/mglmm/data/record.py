"""USCDF, one form for all data: an image, turns of text, and spans of the answers tied to masks.

A file is JSON Lines (`.uscdf.jsonl`), one record a line:

    {"name": "a1", "image": "a.jpg", "size": [60, 100], "task": "gcg",
     "turns": [{"role": "user", "wording": "gcg"}, {"role": "assistant", "text": "A dog.", "spans": [[2, 5, 0]]}],
     "masks": [{"size": [60, 100], "counts": "...", "label": "dog", "parent": -1}]}

A user's turn has a `text`, or a `wording` (a key of the wordings, with what it is `about`), which is drawn anew each
time. Several spans may mean one mask. Run lengths under `ignored` are pixels that no score counts. H x W the image.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mglmm.data import values
from mglmm.data.marked import Span, with_marks
from mglmm.tokens import MARKS
from partglee.basics.files import read_json_lines, whole_file
from partglee.basics.masks import decode, encode_segmentation

SUFFIX = ".uscdf.jsonl"
TASKS = (
    "referring", "semantic", "reasoning", "gcg", "mgsc_root", "mgsc_subtree", "all_objects", "caption", "vqa",
    "region_caption", "region",
)  # fmt: skip


class Said(NamedTuple):
    """One turn."""

    role: str  # "user" or "assistant"
    text: str = ""  # plain: marks are made of the spans
    spans: tuple[Span, ...] = ()
    wording: str = ""  # in place of a user's text
    about: str = ""  # what the wording speaks of

    @property
    def marked(self) -> str:
        """As it is said, with marks."""
        return with_marks(self.text, self.spans)


@dataclass(frozen=True, slots=True)
class RegionMask:
    """One mask of an image."""

    segmentation: Any  # run lengths {"size", "counts"}, or polygons
    label: str = ""
    parent: int = -1  # row of the masks

    def decoded(self, size: tuple[int, int], what: str) -> NDArray[np.bool_]:
        """(H, W); ValueError that begins with `what` for one that does not decode."""
        encode_segmentation(self.segmentation, size, what=what)
        return decode(self.segmentation, *size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """An image and what is said about it."""

    name: str  # unique in its source, for messages and predictions
    image: str  # file, relative to the source's folder of images; or an absolute one
    size: tuple[int, int]  # (H, W)
    task: str
    turns: tuple[Said, ...]
    masks: tuple[RegionMask, ...] = ()
    ignored: Any = None  # run lengths or polygons of pixels that ReasonSeg's scores leave out
    pixels: NDArray[np.uint8] | None = field(default=None, compare=False, repr=False)  # of an image without file

    def check(self) -> Record:
        """The record itself.

        Raises:
            ValueError: for turns that do not alternate, spans outside of their text or over each other, a span without
                a mask, text with marks in it, something that is no text, masks that are parents of each other, or a
                mask that cannot be read; the message names the record.
        """
        what = f"record {self.name!r}"
        for key in ("name", "image"):
            values.text(getattr(self, key), f"{what}: its {key}")
        values.size(self.size, f"{what}: its size")
        if self.task not in TASKS:
            raise ValueError(f"{what}: unknown task {self.task!r}; there are {', '.join(TASKS)}")
        if not self.turns or len(self.turns) % 2:
            raise ValueError(f"{what} must end with an answer, it has {len(self.turns)} turns")
        for place, turn in enumerate(self.turns):
            if turn.role != ("user", "assistant")[place % 2]:
                raise ValueError(f"{what}: turn {place} is of {turn.role!r}; users and assistants alternate")
            for key in ("text", "wording", "about"):
                values.text(getattr(turn, key), f"{what}: {key} of turn {place}")
            if not turn.text.strip() and not (turn.role == "user" and turn.wording):
                raise ValueError(f"{what}: turn {place} says nothing")
            if found := [mark for mark in MARKS if mark in turn.text]:
                raise ValueError(f"{what}: turn {place} holds {found[0]}; marks are made of the spans")
            self._check_spans(turn, f"{what}, turn {place}")
        for row, mask in enumerate(self.masks):
            values.text(mask.label, f"{what}: label of mask {row}")
            encode_segmentation(mask.segmentation, self.size, what=f"{what}, mask {row} {mask.label!r}")
            if not -1 <= mask.parent < len(self.masks) or mask.parent == row:
                raise ValueError(f"{what}: mask {row} has parent {mask.parent} of {len(self.masks)} masks")
        for row in range(len(self.masks)):
            above, steps = row, 0
            while above >= 0 and steps <= len(self.masks):
                above, steps = self.masks[above].parent, steps + 1
            if above >= 0:
                raise ValueError(f"{what}: mask {row} belongs to itself by its parents; one of them must have -1")
        if self.ignored is not None:
            encode_segmentation(self.ignored, self.size, what=f"{what}, what is ignored")
        return self

    def _check_spans(self, turn: Said, what: str) -> None:
        if turn.spans and turn.role == "user":
            raise ValueError(f"{what}: a question has no masks")
        end = 0
        for span in turn.spans:
            if not 0 <= span.start < span.end <= len(turn.text) or not turn.text[span.start : span.end].strip():
                raise ValueError(f"{what}: span {tuple(span)} is no phrase of a text of {len(turn.text)} characters")
            if span.start < end:
                raise ValueError(f"{what}: span {tuple(span)} begins before the last one ends")
            if not 0 <= span.mask < len(self.masks):
                raise ValueError(f"{what}: span {tuple(span)} means mask {span.mask}, there are {len(self.masks)}")
            end = span.end

    def announced(self, *, last: bool = False) -> list[int]:
        """Rows of the masks, one for each [SEG], in the order in which answers announce them.

        Args:
            last: of the last answer alone, which is what an evaluation asks for.
        """
        return [span.mask for turn in (self.turns[-1:] if last else self.turns) for span in sorted(turn.spans)]

    def unsaid(self) -> list[int]:
        """Rows of the masks that no answer announces."""
        said = set(self.announced())
        return [row for row in range(len(self.masks)) if row not in said]

    def ignored_pixels(self) -> NDArray[np.bool_] | None:
        """(H, W) that count for nobody; None where all do."""
        return None if self.ignored is None else RegionMask(self.ignored).decoded(self.size, f"record {self.name!r}")


def run_lengths(segmentation: Any, size: tuple[int, int], what: str) -> dict[str, Any]:
    """Polygons or run lengths as run lengths whose counts are text; ValueError that begins with `what`."""
    encoded = encode_segmentation(segmentation, size, what=what)
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")}


# -- files -------------------------------------------------------------------------------------------------------------


def record_to_json(record: Record) -> dict[str, Any]:
    """A record as a line of a file."""
    turns: list[dict[str, Any]] = []
    for turn in record.turns:
        entry: dict[str, Any] = {"role": turn.role}
        entry |= {"wording": turn.wording, "about": turn.about} if turn.wording else {"text": turn.text}
        if turn.spans:
            entry["spans"] = [list(span) for span in turn.spans]
        turns.append(entry)
    masks = []
    for mask in record.masks:
        encoded = run_lengths(mask.segmentation, record.size, f"record {record.name!r}")
        masks.append({**encoded, "label": mask.label, "parent": mask.parent})
    line: dict[str, Any] = {
        "name": record.name, "image": record.image, "size": list(record.size), "task": record.task, "turns": turns,
        "masks": masks,
    }  # fmt: skip
    if record.ignored is not None:
        line["ignored"] = run_lengths(record.ignored, record.size, f"record {record.name!r}, what is ignored")
    return line


def record_of(entry: Mapping[str, Any], where: str) -> Record:
    """A line of a file as a record, which is not checked yet.

    Raises:
        ValueError: for an entry of another form, with where it stands.
    """
    try:
        turns = tuple(_turn_of(turn) for turn in values.objects(entry, "turns", "the line"))
        masks = tuple(
            RegionMask(
                {"size": mask["size"], "counts": mask["counts"]},
                values.text(mask.get("label", ""), "a mask's label"),
                values.whole(mask.get("parent", -1), "a mask's parent"),
            )
            for mask in values.several(entry.get("masks", ()), "masks")
        )
        return Record(
            name=values.text(entry["name"], "name"), image=values.text(entry["image"], "image"),
            size=values.size(entry["size"]), task=values.text(entry["task"], "task"), turns=turns, masks=masks,
            ignored=entry.get("ignored"),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{where} is no record of USCDF ({error!r:.160})") from error


def _turn_of(turn: Mapping[str, Any]) -> Said:
    spans = []
    for span in values.several(turn.get("spans", ()), "a turn's spans"):
        start, end, mask = (values.whole(number, "each number of a span") for number in values.several(span, "a span"))
        spans.append(Span(start, end, mask))
    text, wording, about = (values.text(turn.get(key, ""), f"a turn's {key}") for key in ("text", "wording", "about"))
    return Said(values.text(turn["role"], "a turn's role"), text, tuple(spans), wording, about)


def read_uscdf(file: str | Path) -> Iterator[Record]:
    """Checked records of a file.

    Raises:
        ValueError: for a line that is none, with its number and the record's name; for a name that comes twice.
    """
    seen: set[str] = set()
    for number, _, entry in read_json_lines(file, "USCDF file"):
        where = f"line {number} of '{file}'"
        record = record_of(entry, where)
        try:
            record.check()
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        if record.name in seen:
            raise ValueError(f"{where}: there is a record {record.name!r} before")
        seen.add(record.name)
        yield record


def write_uscdf(records: Iterable[Record], file: str | Path) -> int:
    """Write checked records; the file appears whole. Returns how many.

    Raises:
        ValueError: for a record that `Record.check` refuses, or a name that comes twice.
    """
    names: set[str] = set()
    with whole_file(Path(file)) as beside, beside.open("w", encoding="utf-8") as lines:
        for record in records:
            line = json.dumps(record_to_json(record.check()), ensure_ascii=False)
            if record.name in names:
                raise ValueError(f"there are two records {record.name!r}; a file needs a name of its own for each")
            names.add(record.name)
            lines.write(line + "\n")
    return len(names)
