"""Every sentence that a rule makes means exactly its targets: a slow interpreter reads the words and looks."""

from __future__ import annotations

import colorsys
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from partglee.data import Expression, ImageRecord, Instance
from partglee.data.colors import COLORS, color_of
from partglee.data.expression_rules import ExpressionRules, make_expressions, noun_of, plural, possible
from partglee.data.expression_views import RuleExpressions
from partglee.data.segmentation import decode
from partglee.structures import Vocabulary
from partglee.testing import TOY_VOCABULARY, ToyRecords, referring_scene
from partglee.testing.toy_referring import PALETTE

NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
PEOPLE = {"person", "man", "woman"}


# -- the interpreter -------------------------------------------------------------------------------------------------


class World:
    """Answers what a sentence means by looking at each object; raises AssertionError where it could mean two things."""

    def __init__(self, record: ImageRecord, vocabulary: Vocabulary, pixels: NDArray[np.uint8] | None) -> None:
        self.record, self.pixels = record, pixels
        self.nouns = [noun_of(name) for name in vocabulary.object_names]
        self.part_nouns = [noun_of(name) for name in vocabulary.part_names]
        self.known = {plural(noun): noun for noun in self.nouns} | {noun: noun for noun in self.nouns}
        self.known_parts = {plural(noun): noun for noun in self.part_nouns} | {noun: noun for noun in self.part_nouns}

    def meaning(self, text: str) -> tuple[set[int], set[int]]:
        """Rows of objects, rows of parts."""
        if " and the " in text:
            first, second = text.split(" and the ")
            return self.things(first) | self.things(f"the {second}"), set()
        if match := re.fullmatch(r"the (.+) of ((?:the|all) .+)", text):
            owners, noun = self.things(match[2]), self.known_parts[match[1]]
            rows = {
                row
                for row, part in enumerate(self.record.parts)
                if part.parent in owners and self.part_nouns[part.label] == noun
            }
            assert match[1] != noun or len(rows) <= 1 or plural(noun) == noun, f"more than one: {text}"
            return set(), rows
        return self.things(text), set()

    def things(self, text: str) -> set[int]:
        if match := re.fullmatch(r"everyone but (.+)", text):
            everyone = {row for row, _ in enumerate(self.record.objects) if self.noun(row) in PEOPLE}
            return everyone - self.things(match[1])
        if match := re.fullmatch(r"all (.+) but (the .*)\bone( in \w+)?", text):
            noun = self.known[match[1]]
            alike = {row for row, _ in enumerate(self.record.objects) if self.noun(row) == noun}
            return alike - self.things(f"{match[2]}{noun}{match[3] or ''}")
        return self.simple(text)

    def simple(self, text: str) -> set[int]:
        endings = r"(?: in (?P<color>\w+))?(?: (with|without) an? (.+))?(?: on the (left|right))?"
        match = re.fullmatch(rf"(the|all|both) (.+?){endings}", text)
        assert match, text
        determiner, words, color, having, part, side = match.groups()
        tokens = words.split()
        adjectives = []
        while " ".join(tokens) not in self.known:
            adjectives.append(tokens.pop(0))
        written = " ".join(tokens)
        noun = self.known[written]
        assert (color is None) or noun in PEOPLE
        adjectives += [color] if color else []
        rows = [row for row, _ in enumerate(self.record.objects) if self.noun(row) == noun]
        rows = self.filtered(rows, adjectives, having, part)
        number = next((NUMBERS[word] for word in adjectives if word in NUMBERS), None)
        if side:
            assert number and len(rows) > number
            rows = sorted(rows, key=self.x, reverse=side == "right")
            assert abs(self.x(rows[number]) - self.x(rows[number - 1])) >= 0.1
            rows = rows[:number]
        elif determiner == "both":
            assert len(rows) == 2
        elif number:
            assert len(rows) == number
        elif written == noun and plural(noun) != noun:
            assert determiner == "the" and len(rows) <= 1, f"more than one: {text}"
        else:
            assert len(rows) != 1
        return set(rows)

    def filtered(self, rows: list[int], adjectives: list[str], having: str | None, part: str | None) -> list[int]:
        for word in reversed(adjectives):  # the one next to the noun first
            if word in COLORS:
                colors = {row: self.color(row) for row in rows}
                assert None not in colors.values(), "the colour of one is not clear"
                rows = [row for row in rows if colors[row] == word]
        if having:
            looked_at = {part.parent for part in self.record.parts}
            assert set(rows) <= looked_at, "nobody looked for parts"
            rows = [row for row in rows if (part in self.parts(row)) == (having == "with")]
        for word in adjectives:
            if word in COLORS or word in NUMBERS:
                continue
            values = {"left": self.x, "right": self.x, "upper": self.y, "lower": self.y}
            value = values.get(word.removesuffix("most"), self.area)
            last = word.removesuffix("most") in ("right", "lower", "larger", "largest")
            if not rows:
                continue
            assert (len(rows) == 2) == (word in ("left", "right", "upper", "lower", "larger", "smaller"))
            order = sorted(rows, key=value, reverse=last)
            first, second = value(order[0]), value(order[1])
            if value is self.area:
                assert max(first, second) >= 1.5 * min(first, second)
            else:
                assert abs(first - second) >= 0.1
            rows = order[:1]
        return rows

    def noun(self, row: int) -> str:
        return self.nouns[self.record.objects[row].label]

    def parts(self, row: int) -> set[str]:
        return {self.part_nouns[part.label] for part in self.record.parts if part.parent == row}

    def x(self, row: int) -> float:
        return (self.record.objects[row].box[0] + self.record.objects[row].box[2]) / 2 / self.record.width

    def y(self, row: int) -> float:
        return (self.record.objects[row].box[1] + self.record.objects[row].box[3]) / 2 / self.record.height

    def mask(self, row: int) -> NDArray[np.bool_]:
        return decode(self.record.objects[row].segmentation, self.record.height, self.record.width)

    def area(self, row: int) -> float:
        return float(self.mask(row).sum())

    def color(self, row: int) -> str | None:
        assert self.pixels is not None
        return slow_color(self.pixels[self.mask(row)])


def slow_color(pixels: NDArray[np.uint8]) -> str | None:
    """Pixel by pixel, by the standard library's HSV."""
    counts = dict.fromkeys((*COLORS, None), 0)
    for red, green, blue in pixels.tolist():
        counts[slow_name(red, green, blue)] += 1
    unnamed = counts.pop(None)
    first, second = sorted(COLORS, key=lambda word: -counts[word])[:2]
    total = sum(counts.values()) + unnamed
    return first if counts[first] and counts[first] >= 0.5 * total and counts[first] >= 1.6 * counts[second] else None


def slow_name(red: int, green: int, blue: int) -> str | None:
    hue, saturation, value = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)
    if value < 0.2:
        return "black"
    if saturation < 0.15:
        if value < 0.3:
            return "black"
        if value >= 0.8:
            return "white"
        return None if value < 0.38 or value >= 0.72 else "grey"
    if value < 0.3 or saturation < 0.3:
        return None
    degrees = hue * 360
    spans = {"red": (0, 12), "orange": (18, 42), "yellow": (48, 68), "green": (78, 160), "blue": (195, 252),
             "purple": (262, 290), "pink": (300, 338)}  # fmt: skip
    for word, (begin, end) in spans.items():
        if begin <= degrees < end:
            return "brown" if word in ("orange", "yellow") and value < 0.6 else word
    return "red" if degrees >= 346 else None


# -- toy scenes ------------------------------------------------------------------------------------------------------


def test_every_sentence_of_toy_scenes_means_its_targets() -> None:
    records = ToyRecords(num_images=60, seed=7, scene=referring_scene)
    kinds: dict[str, set[str]] = {}
    for index in range(len(records)):
        record = records[index]
        world = World(record, records.vocabulary, record.pixels)
        clothes = index % 2 == 0
        for said in possible(record, records.vocabulary, pixels=record.pixels, clothes=clothes):
            assert (set(said.objects), set(said.parts)) == world.meaning(said.text), (index, said)
            assert clothes or " in " not in said.text
            kinds.setdefault(said.rule, set()).add(said.kind)
    assert kinds.keys() == {
        "name", "color", "place", "size", "and", "all", "all, number", "all of a color", "all of a color, number",
        "side", "with", "without", "but", "no name", "no name, all", "no name, color", "no name, place", "no color",
        "no part", "part", "part of all", "part of nothing",
    }  # fmt: skip
    for rule, found in kinds.items():
        assert (found == {"none"}) == rule.startswith(("no ", "part of nothing")), rule


def test_colors_are_those_that_were_painted() -> None:
    records = ToyRecords(num_images=80, seed=3, scene=referring_scene)
    found = []
    for index in range(len(records)):
        record = records[index]
        assert record.pixels is not None
        for thing in record.objects:
            found.append(color_of(record.pixels[decode(thing.segmentation, record.height, record.width)]))
    assert set(found) <= {*PALETTE, None} and found.count(None) <= 0.03 * len(found)
    assert all(found.count(word) > 5 for word in PALETTE)


def test_colors_agree_with_the_slow_ones() -> None:
    rng = np.random.default_rng(0)
    patches = [rng.integers(0, 256, 3) + rng.integers(-20, 21, (40, 3)) for _ in range(400)]
    grey = [rng.integers(0, 256) + rng.integers(-9, 10, (40, 3)) for _ in range(100)]
    answers = []
    for patch in [*patches, *grey]:
        pixels = patch.clip(0, 255).astype(np.uint8)
        hues = [360 * colorsys.rgb_to_hsv(*(pixel / 255))[0] for pixel in pixels]
        pixels = pixels[[abs(hue - round(hue)) > 1e-6 or hue == 0 for hue in hues]]  # bounds are rounded differently
        answers.append(color_of(pixels))
        assert answers[-1] == slow_color(pixels)
    assert set(answers) == {*COLORS, None} and color_of(np.zeros((0, 3), np.uint8)) is None


# -- worlds by hand --------------------------------------------------------------------------------------------------

NAMES = Vocabulary({"car": ["wheel", "door"], "person": [], "city_bus (vehicle)": ["wheel"]})
RED, BLUE = (220, 30, 30), (30, 60, 220)


def square(label: int, x: int, color: tuple[int, int, int] = RED, size: int = 8, **more: object) -> Instance:
    del color
    box = (float(x), 20.0 - size / 2, float(x + size), 20.0 + size / 2)
    corners = (box[0], box[1], box[2], box[1], box[2], box[3], box[0], box[3])
    return Instance(label=label, box=box, segmentation=(corners,), **more)  # type: ignore[arg-type]


def world(*things: tuple[Instance, tuple[int, int, int]], **more: object) -> tuple[ImageRecord, NDArray[np.uint8]]:
    record = ImageRecord(Path("a.jpg"), 40, 100, 1, tuple(thing for thing, _ in things), **more)  # type: ignore[arg-type]
    pixels = np.full((40, 100, 3), 90, np.uint8)
    for thing, color in things:
        pixels[decode(thing.segmentation, 40, 100)] = color
    return record, pixels


def told(record: ImageRecord, pixels: NDArray[np.uint8] | None) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    everything = possible(record, NAMES, pixels=pixels)
    checker = World(record, NAMES, pixels)
    for said in everything:
        assert (set(said.objects), set(said.parts)) == checker.meaning(said.text), said
    return {said.text: (said.objects, said.parts) for said in everything}


def test_what_is_said_of_three_cars() -> None:
    record, pixels = world((square(0, 4), RED), (square(0, 40), BLUE), (square(0, 70, size=16), BLUE))
    said = told(record, pixels)
    expected = {
        "all cars": (0, 1, 2), "the three cars": (0, 1, 2), "the red car": (0,), "both blue cars": (1, 2),
        "the two blue cars": (1, 2), "the leftmost car": (0,), "the rightmost car": (2,), "the left blue car": (1,),
        "the largest car": (2,), "the larger blue car": (2,), "the two cars on the left": (0, 1),
        "the two cars on the right": (1, 2), "all cars but the red one": (1, 2),
        "all cars but the leftmost one": (1, 2),
        "the person": (), "the city bus": (), "the white car": (), "all people": (), "the person in red": (),
        "the left city bus": (),
    }  # fmt: skip
    assert {text: said[text][0] for text in expected} == expected
    assert (
        not {"the car", "the blue car", "the left car", "the smallest car", "all people but the red one"} & said.keys()
    )
    assert all("red" not in text and "blue" not in text for text in told(record, None))


def test_people_are_everyone() -> None:
    record, pixels = world((square(1, 4), RED), (square(1, 40), BLUE), (square(1, 80), BLUE))
    said = told(record, pixels)
    assert said["everyone but the person in red"] == said["all people but the one in red"] == ((1, 2), ())
    assert said["both people in blue"] == ((1, 2), ()) and said["the left person in blue"] == ((1,), ())
    assert not any("red person" in text or "blue people" in text for text in said)
    plain = {one.text for one in possible(record, NAMES, pixels=pixels, clothes=False)}
    assert {"everyone but the red person", "both blue people", "all people but the red one"} <= plain
    record, pixels = world((square(1, 4), RED), (square(1, 40), BLUE), (square(0, 80), BLUE))
    assert not any("everyone" in text for text in told(record, pixels))


def test_nothing_is_said_of_what_is_not_certain() -> None:
    """Crowds, names that are not annotated exhaustively, colours of mixed pixels, centres near each other."""
    crowd = square(0, 60, crowd=True)
    record, pixels = world((square(0, 4), RED), (crowd, RED), (square(1, 30), BLUE))
    assert not any(text.endswith(("car", "cars")) for text in told(record, pixels))
    record, pixels = world((square(0, 4), RED), (square(1, 30), BLUE), not_exhaustive_objects=frozenset({0}))
    assert not any("car" in text for text in told(record, pixels))
    record, pixels = world((square(0, 4), RED), negative_objects=frozenset({1}))
    said = told(record, pixels)
    assert "the person" in said and not any("bus" in text for text in said)
    record, pixels = world((square(0, 4), RED), (square(0, 12), BLUE))
    assert not any("left" in text for text in told(record, pixels) if "person" not in text and "bus" not in text)
    pixels[:, 15:] = 90, 90, 90
    pixels[:16, 12:] = 250, 120, 20  # half of the second car
    pixels[24:, 12:] = 250, 120, 20
    assert not any(text in told(record, pixels) for text in ("the red car", "the orange car", "the blue car"))


def wheel(parent: int, x: int, label: int = 0) -> Instance:
    return replace(square(label, x, size=2), parent=parent)


def test_parts() -> None:
    """A car with two wheels, one with a door, a bus with a wheel."""
    things = (square(0, 4), RED), (square(0, 40), BLUE), (square(2, 80), RED)
    parts = (wheel(0, 4), wheel(0, 9), wheel(1, 40, 1), wheel(2, 80, 2))
    record, pixels = world(*things, parts=parts)
    said = told(record, pixels)
    expected: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
        "the wheels of the left car": ((), (0, 1)), "the door of the blue car": ((), (2,)),
        "the wheel of the city bus": ((), (3,)), "the wheels of all cars": ((), (0, 1)),
        "the car without a wheel": ((1,), ()), "the car with a door": ((1,), ()),
        "the city bus without a wheel": ((), ()),
    }  # fmt: skip
    assert {text: said[text] for text in expected} == expected
    loose = told(*world(*things, parts=(*parts, replace(wheel(0, 30), parent=-1))))
    assert not any("car" in text and ("wheel" in text or "door" in text) for text in loose)
    assert "the wheel of the city bus" in loose
    unseen = told(*world(*things, parts=parts[2:]))  # nobody looked at the parts of the red car
    assert "the car without a wheel" not in unseen
    federated = told(*world(*things, parts=parts, negative_parts=frozenset()))
    assert not any("without" in text for text in federated)


@pytest.mark.parametrize(
    ("noun", "many"),
    [("car", "cars"), ("bus", "buses"), ("city bus", "city buses"), ("baby", "babies"), ("toy", "toys"),
     ("person", "people"), ("wine glass", "wine glasses"), ("police man", "police men"), ("sheep", "sheep")],
)  # fmt: skip
def test_plurals(noun: str, many: str) -> None:
    assert plural(noun) == many


# -- choosing --------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_sentences() -> None:
    records = ToyRecords(num_images=30, seed=1, scene=referring_scene)
    first, again = RuleExpressions(records), RuleExpressions(records)
    other = RuleExpressions(records, rules=ExpressionRules(seed=1))
    assert [first[i].expressions for i in range(30)] == [again[29 - i].expressions for i in range(30)][::-1]
    assert [first[i].expressions for i in range(30)] != [other[i].expressions for i in range(30)]
    for index in range(30):
        texts = [said.text for said in first[index].expressions]
        assert len(texts) == len(set(texts)) == 8 and all(not said.parts for said in first[index].expressions)


def test_weights_choose_the_kinds() -> None:
    records = ToyRecords(num_images=40, seed=1, scene=referring_scene)

    def kinds(**weights: float) -> dict[str, float]:
        view = RuleExpressions(records, rules=ExpressionRules(per_image=4, **weights))
        said = [(record, one) for record in map(view.__getitem__, range(40)) for one in record.expressions]
        assert said
        return {
            "none": np.mean([one.no_target for _, one in said]),
            "parts": np.mean([bool(one.parts) for _, one in said]),
            "several": np.mean([len(record.targets(one)) > 1 for record, one in said]),
        }

    assert kinds(single=0, multiple=0, none=1) == {"none": 1, "parts": 0, "several": 0}
    assert kinds(single=0, multiple=1, none=0)["several"] == 1
    assert kinds(single=1, multiple=1, none=0, parts=1)["parts"] == 1
    assert 0.1 < kinds()["none"] < 0.5 and 0.1 < kinds()["several"] < 0.5


@pytest.mark.parametrize(
    "weights", [{"single": -1}, {"single": 0, "multiple": 0, "none": 0}, {"parts": 2}, {"per_image": 0}]
)
def test_rules_that_cannot_be(weights: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expression rules need weights"):
        ExpressionRules(**weights)  # type: ignore[arg-type]


def test_an_image_without_a_name() -> None:
    """Nothing but what is not there can be said of it."""
    record, pixels = world()
    made = make_expressions(record, NAMES, np.random.default_rng(0), pixels=pixels)
    assert made and all(said.no_target and isinstance(said, Expression) for said in made)
    assert TOY_VOCABULARY.object_names  # the toy's own names are nouns
