"""Records from what is known of an image: expressions, names, an object hierarchy. At most so many at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from mglmm.data.marked import Span
from mglmm.data.record import Record, RegionMask, Said, run_lengths
from mglmm.data.wordings import Wordings
from partglee.annotate import masks as runs
from partglee.data.records import ImageRecord, Instance
from partglee.structures import Vocabulary

MOST = 3  # expressions of an image at a time


class Asked(NamedTuple):
    """What may be asked for in an image."""

    phrase: str
    masks: tuple[Any, ...]  # segmentations, united; none: it is not there


@dataclass(frozen=True, slots=True)
class Scene:
    """An image without words."""

    name: str
    image: str
    size: tuple[int, int]
    pixels: Any = None

    @staticmethod
    def of(record: ImageRecord) -> Scene:
        """A record of the library."""
        return Scene(str(record.image_id), record.file.as_posix(), (record.height, record.width), record.pixels)

    def record(self, task: str, turns: Sequence[Said], masks: Sequence[RegionMask], more: str = "") -> Record:
        """The image with something said about it."""
        return Record(
            name=self.name + more, image=self.image, size=self.size, task=task, turns=tuple(turns), masks=tuple(masks),
            pixels=self.pixels,
        )  # fmt: skip


def segment(
    scene: Scene, asked: Sequence[Asked], wordings: Wordings, rng: np.random.Generator, *, task: str = "referring"
) -> Record:
    """One question for all that is asked for; what is not there is said not to be.

    Raises:
        ValueError: for nothing asked.
    """
    if not asked:
        raise ValueError(f"image {scene.name!r}: nothing is asked for")
    there = [one for one in asked if one.masks]
    absent = [one.phrase for one in asked if not one.masks]
    question = (
        wordings.draw("segment_one", rng, asked[0].phrase)
        if len(asked) == 1
        else wordings.draw("segment_several", rng, listed([f"the {one.phrase}" for one in asked]))
    )
    text, spans = "", list[Span]()
    if there:
        key = "answer_one" if len(asked) == 1 else "answer_several"
        text, spans = wordings.draw_answer(key, rng, [one.phrase for one in there])
    for phrase in absent:
        text = f"{text} {wordings.draw('no_target', rng, phrase)}".strip()
    masks = [RegionMask(union(one.masks, scene.size, one.phrase), one.phrase) for one in there]
    return scene.record(task, (Said("user", question), Said("assistant", text, tuple(spans))), masks)


def all_objects(
    scene: Scene, labelled: Sequence[tuple[str, Any]], wordings: Wordings, rng: np.random.Generator
) -> Record:
    """Every object by its name; names that come twice are numbered.

    Args:
        labelled: (name, segmentation).
    """
    phrases = numbered([name for name, _ in labelled])
    text, spans = wordings.draw_answer("answer_all", rng, phrases)
    turns = (Said("user", wordings.draw("all_objects", rng)), Said("assistant", text, tuple(spans)))
    return scene.record("all_objects", turns, [RegionMask(shape, name) for name, shape in labelled])


def expressions_of(record: ImageRecord) -> list[Asked]:
    """The sentences of an image, with what they mean; those whose targets have no masks are left out."""
    found = []
    for said in record.expressions:
        targets = record.targets(said)
        if all(one.segmentation is not None for one in targets):
            found.append(Asked(_plain(said.text), tuple(one.segmentation for one in targets)))
    return found


def names_of(record: ImageRecord, names: Vocabulary, rng: np.random.Generator | None = None) -> list[Asked]:
    """Names of an image, all instances of one together; a part is "wheel of the car" or "car wheel", half and half.

    Args:
        rng: None = always the first form.
    """
    found: dict[str, list[Any]] = {}

    def add(phrase: str, instance: Instance) -> None:
        if instance.segmentation is not None and not instance.crowd:
            found.setdefault(phrase, []).append(instance.segmentation)

    for one in record.objects:
        add(names.object_names[one.label], one)
    forms: dict[tuple[str, str], str] = {}
    for one in record.parts:
        part = names.part_names[one.label]
        if 0 <= one.parent < len(record.objects):
            owner = names.object_names[record.objects[one.parent].label]
            short = rng is not None and bool(rng.integers(2))
            part = forms.setdefault((part, owner), f"{owner} {part}" if short else f"{part} of the {owner}")
        add(part, one)
    return [Asked(phrase, tuple(masks)) for phrase, masks in found.items()]


def absent_names(record: ImageRecord, names: Vocabulary) -> list[str]:
    """Object names that are not in an image: of all, or of those that were looked for."""
    there = {one.label for one in record.objects}
    looked = range(len(names.object_names)) if record.negative_objects is None else sorted(record.negative_objects)
    return [names.object_names[label] for label in looked if label not in there]


def choose(items: Sequence[Any], rng: np.random.Generator, most: int = MOST) -> list[Any]:
    """At most so many of them, in their order."""
    count = min(len(items), most)
    return [items[row] for row in sorted(rng.choice(len(items), size=count, replace=False).tolist())]


def resolve(record: Record, wordings: Wordings, rng: np.random.Generator) -> Record:
    """Draw the texts of users' turns that name a wording, and introduce the image in the first."""
    turns = []
    for place, turn in enumerate(record.turns):
        text = turn.text
        if turn.wording:
            text = wordings.draw(turn.wording, rng, turn.about)
        if place == 0:
            text = f"{wordings.draw('image', rng)} {text}"
        turns.append(turn._replace(text=text, wording="", about=""))
    return replace(record, turns=tuple(turns))


def numbered(names: Sequence[str]) -> list[str]:
    """Names that come more than once become "car-1", "car-2"."""
    total, seen = Counter(names), Counter[str]()
    phrases = []
    for name in names:
        seen[name] += 1
        phrases.append(f"{name}-{seen[name]}" if total[name] > 1 else name)
    return phrases


def listed(items: Sequence[str]) -> str:
    """a, b and c."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def union(segmentations: Sequence[Any], size: tuple[int, int], what: str) -> Mapping[str, Any]:
    """One segmentation of several."""
    return runs.union([run_lengths(one, size, what) for one in segmentations])


def _plain(text: str) -> str:
    return " ".join(text.replace("[SEG]", " ").replace("<p>", " ").replace("</p>", " ").split()).rstrip(".")
