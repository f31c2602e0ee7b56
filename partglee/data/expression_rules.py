"""Referring expressions by rule, from what any hierarchical data set says of an image: names, counts, places, sizes,
colours of the pixels, parts. "All cars", "the two dogs on the left", "the car without a wheel", and what is not there.

Nothing ambiguous is made: a sentence is left out where a margin is small or a name is not annotated exhaustively.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from partglee.basics.names import name_key
from partglee.data.colors import COLORS, color_of
from partglee.data.records import Expression, ImageRecord
from partglee.data.segmentation import decode
from partglee.structures import Vocabulary

MIN_GAP = 0.1  # of the image's side, between the centres that a sentence tells apart
MIN_RATIO = 1.5  # of the areas of the largest and the next
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
PEOPLE = {"person", "man", "woman", "child", "boy", "girl"}
_PLURALS = {"person": "people", "man": "men", "woman": "women", "child": "children", "sheep": "sheep", "fish": "fish",
            "mouse": "mice", "foot": "feet", "tooth": "teeth", "knife": "knives", "leaf": "leaves", "shelf": "shelves",
            "goose": "geese", "scissors": "scissors", "jeans": "jeans", "glasses": "glasses", "pants": "pants",
            "trousers": "trousers", "shorts": "shorts"}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ExpressionRules:
    """Which sentences are made, and how many.

    Raises:
        ValueError: for weights or a number that cannot be.
    """

    per_image: int = 8  # at most
    single: float = 0.45  # how often a sentence means one object ...
    multiple: float = 0.3  # ... several ...
    none: float = 0.25  # ... or nothing, relative to each other, where the image allows it
    parts: float = 0.0  # share of the sentences that mean parts ("the wheels of the left car")
    colors: bool = True  # measured from the pixels
    clothes: bool = True  # the colour of people is that of what they wear: "the person in red"
    seed: int = 0

    def __post_init__(self) -> None:
        weights = (self.single, self.multiple, self.none)
        if min(weights) < 0 or not sum(weights) or not 0 <= self.parts <= 1 or self.per_image < 1:
            raise ValueError(
                "expression rules need weights single, multiple, none of at least 0 and not all 0, parts from 0 to 1 "
                f"and per_image of at least 1, got {self}"
            )


def parse_rules(value: Any) -> ExpressionRules:
    """`rules`, or a mapping of fields of `ExpressionRules` ({PER_IMAGE: 4, PARTS: 0.3}).

    Raises:
        ValueError: for anything else, and for what a field does not take.
    """
    if value == "rules":
        return ExpressionRules()
    known = {entry.name: entry for entry in fields(ExpressionRules)}
    if not isinstance(value, Mapping) or any(str(key).lower() not in known for key in value):
        raise ValueError(
            f"expressions are made by `rules`, or a mapping of {', '.join(known).upper()}, got {value!r:.80}"
        )
    given = {str(key).lower(): entry for key, entry in value.items()}
    for name, entry in given.items():
        wanted = type(known[name].default)
        if isinstance(entry, bool) != (wanted is bool) or not isinstance(entry, (int, wanted)):
            raise ValueError(f"expression rules: {name} must be of type {wanted.__name__}, got {entry!r}")
    return ExpressionRules(**given)


class Said(NamedTuple):
    """A sentence that can be made of an image."""

    rule: str
    text: str
    objects: tuple[int, ...] = ()  # rows of the record, sorted
    parts: tuple[int, ...] = ()

    @property
    def kind(self) -> str:
        """ "single", "multiple" or "none"."""
        return ("none", "single", "multiple")[min(len(self.objects) + len(self.parts), 2)]


def make_expressions(
    record: ImageRecord,
    vocabulary: Vocabulary,
    rng: np.random.Generator,
    *,
    rules: ExpressionRules | None = None,
    pixels: NDArray[np.uint8] | None = None,
) -> tuple[Expression, ...]:
    """Some of the sentences that hold of an image, the same ones for the same state of `rng`.

    Args:
        pixels: (H, W, 3) RGB for the colours; None = no sentence speaks of colour.
    """
    rules = rules or ExpressionRules()
    left: dict[tuple[bool, str], dict[str, list[Said]]] = {}
    for said in possible(record, vocabulary, pixels=pixels if rules.colors else None, clothes=rules.clothes):
        left.setdefault((said.rule.startswith("part"), said.kind), {}).setdefault(said.rule, []).append(said)
    weights = {"single": rules.single, "multiple": rules.multiple, "none": rules.none}
    chosen: list[Said] = []
    while len(chosen) < rules.per_image:
        chances = {key: weights[key[1]] * (rules.parts if key[0] else 1 - rules.parts) for key in sorted(left)}
        keys = [key for key, chance in chances.items() if chance > 0]
        if not keys:
            break
        chance = np.array([chances[key] for key in keys])
        key = keys[int(rng.choice(len(keys), p=chance / chance.sum()))]
        rule = sorted(left[key])[int(rng.integers(len(left[key])))]
        group = left[key][rule]
        chosen.append(group.pop(int(rng.integers(len(group)))))
        if not group:
            del left[key][rule]
            if not left[key]:
                del left[key]
    return tuple(Expression(said.text, said.objects, said.parts, place) for place, said in enumerate(chosen, start=1))


def possible(
    record: ImageRecord,
    vocabulary: Vocabulary,
    *,
    pixels: NDArray[np.uint8] | None = None,
    clothes: bool = True,
) -> list[Said]:
    """Every sentence that the rules make of an image, each text once; see `make_expressions`."""
    scene = _Scene(record, vocabulary, pixels, clothes=clothes)
    told: dict[str, Said] = {}
    for said in (*scene.objects(), *scene.absent(), *scene.part_sentences()):
        told.setdefault(said.text, said)
    return list(told.values())


class _Thing(NamedTuple):
    """One object and what can be said of it."""

    row: int
    noun: str
    x: float  # of the centre, share of the width
    y: float
    area: float  # pixels
    color: str | None
    parts: dict[str, tuple[int, ...]]  # part name -> rows


class _Definite(NamedTuple):
    """Words that mean one object, such as "the left red car"."""

    rule: str
    text: str
    thing: _Thing


class _Scene:
    """The facts of one image, and the sentences that follow from them."""

    def __init__(
        self, record: ImageRecord, vocabulary: Vocabulary, pixels: NDArray[np.uint8] | None, *, clothes: bool
    ) -> None:
        self._record, self._vocabulary = record, vocabulary
        self._colored, self._clothes = pixels is not None, clothes
        nouns = [noun_of(name) for name in vocabulary.object_names]
        self._parts = _parts_by_object(record, vocabulary)
        # Of a name with a crowd, or with more instances than are annotated, nothing can be counted.
        unsure = {nouns[thing.label] for thing in record.objects if thing.crowd}
        unsure |= {nouns[label] for label in record.not_exhaustive_objects}
        self._present = {nouns[thing.label] for thing in record.objects}
        self.groups: dict[str, list[_Thing]] = defaultdict(list)
        for row, thing in enumerate(record.objects):
            if nouns[thing.label] not in unsure:
                self.groups[nouns[thing.label]].append(self._thing(row, nouns[thing.label], pixels))
        looked_for = range(len(nouns)) if record.negative_objects is None else sorted(record.negative_objects)
        self._absent = [nouns[label] for label in looked_for if nouns[label] not in self._present]
        self._part_names = {
            noun_of(name): tuple(noun_of(part) for part in vocabulary.parts_of(name))
            for name in vocabulary.object_names
        }

    def _thing(self, row: int, noun: str, pixels: NDArray[np.uint8] | None) -> _Thing:
        thing = self._record.objects[row]
        height, width = self._record.height, self._record.width
        x0, y0, x1, y1 = thing.box
        area, color = (x1 - x0) * (y1 - y0), None
        if thing.segmentation is not None and height and width:
            mask = decode(thing.segmentation, height, width)
            area = float(mask.sum())
            color = None if pixels is None else color_of(pixels[mask])
        middle = (x0 + x1) / 2 / max(width, 1), (y0 + y1) / 2 / max(height, 1)
        return _Thing(row, noun, *middle, area, color, self._parts.get(row, {}))

    # -- objects -----------------------------------------------------------------------------------------------------

    def objects(self) -> Iterator[Said]:
        """Sentences that mean objects that are there."""
        definites = [one for noun in self.groups for one in self._definites(noun)]
        for one in definites:
            yield Said(one.rule, one.text, (one.thing.row,))
        for noun, things in self.groups.items():
            yield from self._groups_of(noun, things)
            yield from self._all_but(noun, things, definites)
        plain = [one for one in definites if one.rule in ("name", "color")]
        for first, second in combinations(plain, 2):
            if first.thing.noun != second.thing.noun:
                rows = _rows([first.thing, second.thing])
                yield Said("and", f"{first.text} and {second.text}", rows)

    def _definites(self, noun: str) -> Iterator[_Definite]:
        things = self.groups[noun]
        if len(things) == 1:
            yield _Definite("name", f"the {noun}", things[0])
        for color, some in self._by_color(things).items():
            if len(some) == 1:
                yield _Definite("color", f"the {self._colored_noun(color, noun)}", some[0])
            elif len(some) < len(things):
                yield from self._placed(self._colored_noun(color, noun), some)
        yield from self._placed(noun, things)
        for part, has, lacks in self._part_pairs(noun, things):
            if len(has) == 1:
                yield _Definite("with", f"the {noun} with {_a(part)}", has[0])
            if len(lacks) == 1:
                yield _Definite("without", f"the {noun} without {_a(part)}", lacks[0])

    def _placed(self, noun: str, things: Sequence[_Thing]) -> Iterator[_Definite]:
        """Told apart by place or size."""
        if len(things) < 2:
            return
        most = "" if len(things) == 2 else "most"
        across = sorted(things, key=lambda thing: thing.x)
        if across[1].x - across[0].x >= MIN_GAP:
            yield _Definite("place", f"the left{most} {noun}", across[0])
        if across[-1].x - across[-2].x >= MIN_GAP:
            yield _Definite("place", f"the right{most} {noun}", across[-1])
        down = sorted(things, key=lambda thing: thing.y)
        if len(things) == 2 and down[1].y - down[0].y >= 2 * MIN_GAP:
            yield _Definite("place", f"the upper {noun}", down[0])
            yield _Definite("place", f"the lower {noun}", down[1])
        sizes = sorted(things, key=lambda thing: thing.area)
        larger, smaller = ("larger", "smaller") if len(things) == 2 else ("largest", "smallest")
        if sizes[-1].area >= MIN_RATIO * sizes[-2].area:
            yield _Definite("size", f"the {larger} {noun}", sizes[-1])
        if sizes[1].area >= MIN_RATIO * sizes[0].area:
            yield _Definite("size", f"the {smaller} {noun}", sizes[0])

    def _groups_of(self, noun: str, things: Sequence[_Thing]) -> Iterator[Said]:
        many = plural(noun)
        yield from _all(many, things, "all")
        for color, some in self._by_color(things).items():
            if len(some) >= 2:
                yield from _all(self._colored_noun(color, noun, many), some, "all of a color")
        across = sorted(things, key=lambda thing: thing.x)
        for count in range(2, min(len(things), len(NUMBERS))):
            if across[count].x - across[count - 1].x >= MIN_GAP:
                yield Said("side", f"the {NUMBERS[count]} {many} on the left", _rows(across[:count]))
            if across[-count].x - across[-count - 1].x >= MIN_GAP:
                yield Said("side", f"the {NUMBERS[count]} {many} on the right", _rows(across[-count:]))
        for part, has, lacks in self._part_pairs(noun, things):
            if len(has) >= 2:
                yield Said("with", f"the {many} with {_a(part)}", _rows(has))
            if len(lacks) >= 2:
                yield Said("without", f"the {many} without {_a(part)}", _rows(lacks))

    def _all_but(self, noun: str, things: Sequence[_Thing], definites: Sequence[_Definite]) -> Iterator[Said]:
        """All of a name but one that can be named; of two, the other one."""
        if len(things) < 2:
            return
        for one in definites:
            if one.thing.noun != noun or one.rule not in ("color", "place", "size"):
                continue
            others = _rows([thing for thing in things if thing.row != one.thing.row])
            if len(others) >= 2:
                yield Said("but", f"all {plural(noun)} but {one.text.replace(f' {noun}', ' one', 1)}", others)
            if noun in PEOPLE and self._present == {noun}:
                yield Said("but", f"everyone but {one.text}", others)

    def _colored_noun(self, color: str, noun: str, written: str = "") -> str:
        """ "red car", "person in red"; `written` may be the plural."""
        in_clothes = self._clothes and noun.rpartition(" ")[2] in PEOPLE
        return f"{written or noun} in {color}" if in_clothes else f"{color} {written or noun}"

    def _by_color(self, things: Sequence[_Thing]) -> dict[str, list[_Thing]]:
        """Of a name of which every object has a certain colour."""
        groups: dict[str, list[_Thing]] = {}
        if all(thing.color for thing in things):
            for thing in things:
                groups.setdefault(str(thing.color), []).append(thing)
        return groups

    def _part_pairs(self, noun: str, things: Sequence[_Thing]) -> Iterator[tuple[str, list[_Thing], list[_Thing]]]:
        """Part name, objects with it, objects without; where every object of the name was looked at for parts."""
        if self._record.negative_parts is not None or self._loose(noun) or not all(thing.parts for thing in things):
            return
        for part in self._part_names[noun]:
            has = [thing for thing in things if part in thing.parts]
            yield part, has, [thing for thing in things if part not in thing.parts]

    def _loose(self, noun: str) -> bool:
        """Whether the parts of an object of this name are not all known: one has no parent, or is a crowd."""
        owners = self._vocabulary.part_owner
        names = [noun_of(name) for name in self._vocabulary.object_names]
        unsure = {part.label for part in self._record.parts if part.parent < 0 or part.crowd}
        return any(names[row] == noun for label in unsure | self._record.not_exhaustive_parts for row in owners[label])

    # -- nothing -----------------------------------------------------------------------------------------------------

    def absent(self) -> Iterator[Said]:
        """Sentences that mean nothing in this image, though their words may be near."""
        colors = sorted({str(thing.color) for group in self.groups.values() for thing in group if thing.color})
        for noun in dict.fromkeys(self._absent):
            yield Said("no name", f"the {noun}")
            yield Said("no name, all", f"all {plural(noun)}")
            yield from (Said("no name, color", f"the {self._colored_noun(color, noun)}") for color in colors)
            yield from (Said("no name, place", f"the {side} {noun}") for side in ("left", "right"))
            yield from (Said("part of nothing", f"the {part} of the {noun}") for part in self._part_names[noun])
        for noun, things in self.groups.items():
            groups = self._by_color(things)
            if self._colored and groups:
                missing = (color for color in COLORS if color not in groups)
                yield from (Said("no color", f"the {self._colored_noun(color, noun)}") for color in missing)
            for part, has, lacks in self._part_pairs(noun, things):
                if not has:
                    yield Said("no part", f"the {noun} with {_a(part)}")
                if not lacks:
                    yield Said("no part", f"the {noun} without {_a(part)}")

    # -- parts -------------------------------------------------------------------------------------------------------

    def part_sentences(self) -> Iterator[Said]:
        """Sentences that mean parts, of one object or of all of a name."""
        for noun, things in self.groups.items():
            if self._loose(noun):
                continue
            for one in self._definites(noun):
                for part, rows in one.thing.parts.items():
                    yield Said("part", f"the {part if len(rows) == 1 else plural(part)} of {one.text}", (), rows)
            for part in self._part_names[noun]:
                rows = tuple(sorted(row for thing in things for row in thing.parts.get(part, ())))
                if len(things) >= 2 and len(rows) >= 2:
                    yield Said("part of all", f"the {plural(part)} of all {plural(noun)}", (), rows)


def _all(many: str, things: Sequence[_Thing], rule: str) -> Iterator[Said]:
    """All of a group of two or more, also by number."""
    if len(things) < 2:
        return
    rows = _rows(things)
    yield Said(rule, f"{'both' if len(things) == 2 else 'all'} {many}", rows)
    if len(things) < len(NUMBERS):
        yield Said(f"{rule}, number", f"the {NUMBERS[len(things)]} {many}", rows)


def _rows(things: Sequence[_Thing]) -> tuple[int, ...]:
    return tuple(sorted(thing.row for thing in things))


def _parts_by_object(record: ImageRecord, vocabulary: Vocabulary) -> dict[int, dict[str, tuple[int, ...]]]:
    """Row of an object -> part name -> rows of its parts."""
    found: dict[int, dict[str, tuple[int, ...]]] = {}
    for row, part in enumerate(record.parts):
        if part.parent >= 0:
            names = found.setdefault(part.parent, {})
            name = noun_of(vocabulary.part_names[part.label])
            names[name] = (*names.get(name, ()), row)
    return found


def noun_of(name: str) -> str:
    """A category's name as people say it: `car_(automobile)` is a car."""
    return name_key(name.replace("_", " ").split("(")[0]) or name_key(name)


def plural(noun: str) -> str:
    """Of the last word."""
    head, _, last = noun.rpartition(" ")
    if last in _PLURALS:
        many = _PLURALS[last]
    elif last.endswith(("s", "x", "z", "ch", "sh")):
        many = f"{last}es"
    elif last.endswith("y") and last[-2:-1] not in "aeiou":
        many = f"{last[:-1]}ies"
    else:
        many = f"{last}s"
    return f"{head} {many}".strip()


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
