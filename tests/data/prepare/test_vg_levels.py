"""Objects and parts of Visual Genome: what phrases name, and the rule against a slow reading of it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from partglee.data.prepare.vg_levels import could_own, derive_levels, part_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("wheel", "wheel"), ("front wheels", "wheel"), ("left front wheel", "wheel"), ("man's left hand", "hand"),
        ("leg of a chair", "leg"), ("feet", "foot"), ("windows", "window"), ("side mirror", "side mirror"),
        ("man", None), ("tree", None), ("computer mouse", None), ("steering", None), ("s", None),
        ("bed", None),  # a part of a truck, but an object of COCO
    ],
)  # fmt: skip
def test_what_a_phrase_names(text: str, name: str | None) -> None:
    assert part_name(text) == name


@pytest.mark.parametrize(
    ("owner", "part", "could"),
    [
        ("car", "wheel", True), ("red car", "wheel", True), ("car", "arm", False), ("man", "arm", True),
        ("old woman", "arm", True), ("woman", "skirt", False), ("giraffe", "neck", True), ("cars", "wheel", True),
        ("building", "window", True),
    ],
)  # fmt: skip
def test_who_could_own_it(owner: str, part: str, could: bool) -> None:
    assert could_own(owner, part) == could


def inside(box: np.ndarray, other: np.ndarray) -> bool:
    w = min(box[0] + box[2], other[0] + other[2]) - max(box[0], other[0])
    h = min(box[1] + box[3], other[1] + other[3]) - max(box[1], other[1])
    return max(w, 0) * max(h, 0) >= 0.5 * box[2] * box[3] and other[2] * other[3] > box[2] * box[3]


@pytest.mark.parametrize("seed", range(6))
def test_random_boxes(seed: int) -> None:
    texts = ["man", "car", "giraffe", "hand", "man's hand", "wheel", "neck", "tree", "door"]
    rng = np.random.default_rng(seed)
    phrase = rng.integers(0, len(texts), 60)
    box = np.concatenate([rng.integers(0, 20, (60, 2)), rng.integers(1, 30, (60, 2))], axis=1).astype(float)
    start = np.array([0, 20, 20, 45, 60])
    found = derive_levels(texts, phrase, box, start)
    rows = [range(a, b) for a, b in itertools.pairwise(start)]
    same = {row: image for image in rows for row in image}
    names = [part_name(text) for text in texts]
    for number, text in enumerate(texts):
        mine = [row for row in range(60) if phrase[row] == number]
        good = sum(
            any(
                inside(box[row], box[o]) and names[phrase[o]] is None and could_own(texts[phrase[o]], names[number])
                for o in same[row]
            )
            for row in mine
            if names[number]
        )
        assert found.is_part[number] == (names[number] is not None and bool(mine) and good >= len(mine) / 2), text
    for row in range(60):
        name = names[phrase[row]]
        owners = [
            o for o in same[row]
            if found.is_part[phrase[row]] and not found.is_part[phrase[o]] and inside(box[row], box[o])
            and could_own(texts[phrase[o]], name)
        ]  # fmt: skip
        assert (found.parent[row] >= 0) == bool(owners)
        if owners:
            parent = found.parent[row]
            assert parent in owners
            named = [o for o in owners if texts[phrase[row]] == "man's hand" and texts[phrase[o]] == "man"]
            pool = named or [o for o in owners if texts[phrase[o]] in ("man", "car")] or owners
            assert parent in pool and box[parent, 2:].prod() == min(box[o, 2:].prod() for o in pool)


def test_nothing() -> None:
    found = derive_levels([], np.zeros(0, np.int64), np.zeros((0, 4)), np.array([0]))
    assert found.is_part.shape == (0,) and found.parent.shape == (0,)
