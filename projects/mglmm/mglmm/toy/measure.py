"""`python -m mglmm measure WEIGHTS`: what a model learned of toy scenes that it never saw.

Every scene is asked at both granularities: for all its objects, and for one object with its parts. The scene graph says
what is there. A third kind of question is about objects that are not in the scene.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw
from tqdm import tqdm

from mglmm.answer import Answer
from mglmm.data.hierarchy import describe_node, described_nodes
from mglmm.data.make import Asked, Scene, absent_names, resolve, segment
from mglmm.data.record import Record
from mglmm.data.wordings import english
from mglmm.evaluation import grounded_captions
from mglmm.evaluation.predictions import Pair, predicted_of
from mglmm.toy.scenes import SIZE
from partglee.basics.files import write_jpeg
from partglee.testing.toy import TOY_VOCABULARY, VAL_SEED, ToyRecords

NUM_SCENES = 100
_FIRST = 10_000  # scenes that no evaluation while training looks at


class Questions(NamedTuple):
    """What is asked about one scene."""

    whole: Record
    one: Record  # an object and its parts
    absent: Record


def questions(number: int, *, seed: int = 0) -> Iterator[Questions]:
    """Scenes that have several objects, one of them with parts, and lack something."""
    scenes = ToyRecords(seed=VAL_SEED, size=SIZE)
    found = 0
    for index in range(_FIRST, len(scenes)):
        known, rng = scenes[index], np.random.default_rng([seed, index])
        nodes = described_nodes(known, TOY_VOCABULARY)
        below = [node for node in nodes if node >= 0]
        missing = absent_names(known, TOY_VOCABULARY)
        if -1 not in nodes or not below or not missing:
            continue
        absent = segment(Scene.of(known), [Asked(str(rng.choice(missing)), ())], english(), rng)
        records = (
            describe_node(known, TOY_VOCABULARY, -1),
            describe_node(known, TOY_VOCABULARY, int(rng.choice(below))),
            absent,
        )
        yield Questions(*(resolve(record, english(), rng) for record in records))
        found += 1
        if found == number:
            return


def names_in(phrases: Sequence[str]) -> Counter[str]:
    """Names of toy objects and parts that phrases begin with ("kite on the left": kite); "" for any other."""
    known = {*TOY_VOCABULARY.object_names, *TOY_VOCABULARY.part_names}
    found: Counter[str] = Counter()
    for phrase in phrases:
        words = phrase.lower().split()
        starts = (" ".join(words[:count]) for count in range(len(words), 0, -1))
        ordinal = (" ".join(words[1 : 1 + count]) for count in range(len(words) - 1, 0, -1))  # "second kite from ..."
        found[next((name for name in (*starts, *ordinal) if name in known), "")] += 1
    return found


def right_things(record: Record, answer: Answer) -> bool:
    """Whether an answer names what the scene graph has, all of it and nothing else."""
    last = record.turns[-1]
    said = [phrase.text for phrase in answer.phrases]
    return names_in(said) == names_in([last.text[span.start : span.end] for span in last.spans])


def measure(model: Any, number: int = NUM_SCENES, *, pictures: Path | None = None) -> dict[str, float]:
    """Percentages over `number` scenes; `both` counts scenes whose two answers name the right things.

    Args:
        model: a `SegCap`, or anything that is called as it is.
        pictures: folder for the two answers of every scene.
    """
    hits: Counter[str] = Counter()
    pairs: dict[str, list[Pair]] = {"whole": [], "one": []}
    total = 0
    for row, asked in enumerate(tqdm(questions(number), total=number, unit=" scenes", disable=None)):
        answers = {name: model(record.pixels, record.turns[-2].text) for name, record in asked._asdict().items()}
        total += 1
        described = {name: (getattr(asked, name), answers[name]) for name in ("whole", "one")}
        for name, (record, answer) in described.items():
            pairs[name].append(Pair(record, predicted_of(answer.to_dict(), record)))
            hits[f"{name}: right things"] += right_things(record, answer)
            hits[f"{name}: the very sentence"] += answer.text == record.turns[-1].text
        hits["both: right things"] += all(right_things(*pair) for pair in described.values())
        hits["another question, other masks"] += _masks_differ(answers["whole"], answers["one"])
        hits["well-formed"] += all(answer.well_formed and answer.whole for answer in answers.values())
        hits["absent: no mask"] += answers["absent"].no_target
        if pictures is not None:
            for name, answer in answers.items():
                write_jpeg(_drawn(answer), pictures / f"{row:03d}_{name}.jpg")
    results = {name: 100 * count / total for name, count in hits.items()}
    for name, some in pairs.items():
        results |= {f"{name}: {key}": value for key, value in grounded_captions(some).items()}
    return results


def _drawn(answer: Answer) -> Image.Image:
    """The question above, the answer below."""
    picture = answer.draw(scale=2.0)
    lines = textwrap.wrap(answer.question, 58)
    whole = Image.new("RGB", (picture.width, picture.height + 14 * len(lines) + 8), (24, 26, 30))
    pen = ImageDraw.Draw(whole)
    for row, line in enumerate(lines):
        pen.text((8, 4 + 14 * row), line, fill=(170, 176, 186))
    whole.paste(picture, (0, 14 * len(lines) + 8))
    return whole


def _masks_differ(one: Answer, other: Answer) -> bool:
    """Whether some mask of one answer is like none of the other (IoU below 0.5)."""
    for a, b in ((one, other), (other, one)):
        for phrase in a.phrases:
            overlaps = [_iou(phrase.mask, that.mask) for that in b.phrases]
            if max(overlaps, default=0.0) < 0.5:
                return True
    return False


def _iou(a: Any, b: Any) -> float:
    return float((a & b).sum() / max(int((a | b).sum()), 1))
