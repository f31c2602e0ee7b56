"""Toy scenes with referring expressions: several of a kind and colour, missing parts, things that are not there.

`register_toy_referring()` makes `toy_referring_train` (endless) and `toy_referring_val` (400 other scenes) known; no
file is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from partglee.data import DatasetSpec, register
from partglee.data.expression_rules import ExpressionRules
from partglee.testing.toy import TOY_VOCABULARY, TRAIN_SEED, VAL_SEED, ToyRecords
from partglee.testing.toy_figures import KINDS
from partglee.testing.toy_scene import Pixels, PlacedObject, Seed, annotate, background, place, render

NUM_VAL = 400
PALETTE = {  # RGB, and how dark its figures may be painted so that the word still holds
    "red": ((225, 35, 30), (1.0, 0.8, 0.62)),
    "green": ((40, 190, 50), (1.0, 0.8, 0.6)),
    "blue": ((40, 70, 235), (1.0, 0.8, 0.6)),
    "yellow": ((245, 220, 40), (1.0, 0.9, 0.78)),
    "white": ((250, 250, 250), (1.0, 0.94, 0.87)),
    "black": ((40, 40, 40), (1.0, 0.65, 0.3)),
}
DROPPED = {  # parts that an object may come without
    "car": ("wheel", "window"), "bicycle": ("saddle", "handlebar"), "person": ("arm", "leg"), "bottle": ("cap",),
    "boat": ("sail",),
}  # fmt: skip
COUNTS = (0.1, 0.22, 0.3, 0.22, 0.16)  # chances of 1, 2, ... objects


def referring_scene(
    seed: Seed, size: tuple[int, int] = (128, 128), *, kinds: Sequence[str] | None = None
) -> tuple[Pixels, dict[str, Any]]:
    """As `toy_scene`, but of few kinds and colours at a time, each object of one colour, some without a part."""
    rng = np.random.default_rng(seed)
    names = list(KINDS if kinds is None else kinds)
    names = [str(name) for name in rng.choice(names, size=min(len(names), int(rng.integers(1, 4))), replace=False)]
    words = [str(word) for word in rng.choice(list(PALETTE), size=int(rng.integers(1, 4)), replace=False)]
    objects = [_without_a_part(rng, placed) for placed in place(rng, names, size, chances=COUNTS)]
    colors = [_shades(rng, str(rng.choice(words)), len(placed.figures)) for placed in objects]
    image, owner = render(objects, background(rng, *size), rng, colors=colors)
    return image, annotate(objects, owner)


def _without_a_part(rng: np.random.Generator, placed: PlacedObject) -> PlacedObject:
    parts = DROPPED.get(placed.kind, ())
    if not parts or rng.random() >= 0.35:
        return placed
    part = str(rng.choice(parts))
    return placed._replace(figures=[figure for figure in placed.figures if figure.part != part])


def _shades(rng: np.random.Generator, word: str, count: int) -> list[NDArray[np.float64]]:
    """RGB of `count` figures, neighbours of different brightness."""
    base, factors = PALETTE[word]
    return [np.array(base) * (factors[(i + 2) % 3] + rng.uniform(-0.02, 0.02)) for i in range(count)]


def register_toy_referring(
    name: str = "toy_referring",
    *,
    size: tuple[int, int] = (128, 128),
    rules: ExpressionRules | None = None,
    num_val: int = NUM_VAL,
    evaluator: str = "referring",
) -> tuple[DatasetSpec, DatasetSpec]:
    """Register `NAME_train`, endless, and `NAME_val`; names that are taken are replaced.

    Args:
        rules: which sentences; None = objects alone, eight an image. `ExpressionRules(parts=0.5)` speaks of parts too.
        num_val: scenes for validation, never seen in training.
        evaluator: `referring_parts` scores parts apart from objects.
    """
    rules = replace(rules or ExpressionRules(), clothes=False)  # figures are of a colour themselves
    made = []
    for split, seed, count in (("train", TRAIN_SEED, 1_000_000), ("val", VAL_SEED, num_val)):
        spec = DatasetSpec(
            name=f"{name}_{split}", annotations="", images="", reader=_read, vocabulary=TOY_VOCABULARY,
            evaluator=evaluator, options={"num_images": count, "seed": seed, "size": size}, expressions=rules,
        )  # fmt: skip
        made.append(register(spec, replace=True))
    return made[0], made[1]


def _read(spec: DatasetSpec) -> ToyRecords:
    return ToyRecords(**spec.options, scene=referring_scene)
