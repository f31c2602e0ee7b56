"""Masks in one piece of memory behave as the list of their run lengths."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from partglee.evaluation.run_lengths import RunLengths

COUNTS = [b"04", None, b"", b"PPo00", None, b"1"]


def test_as_a_list() -> None:
    masks = RunLengths.of(COUNTS)
    assert list(masks) == [masks[row] for row in range(len(masks))] == COUNTS
    assert masks.missing.tolist() == [entry is None for entry in COUNTS]
    rows = np.array([5, 3, 3, 1])
    assert list(masks.select(rows)) == [COUNTS[row] for row in rows] and masks.select(rows).text is masks.text
    assert list(masks.select(slice(2, 4))) == COUNTS[2:4]
    assert list(pickle.loads(pickle.dumps(masks))) == COUNTS
    assert list(RunLengths.of([])) == [] and list(RunLengths.joined([])) == []


@pytest.mark.parametrize("seed", range(5))
def test_joined_texts_are_held_once(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, two, none = RunLengths.of(COUNTS * 3), RunLengths.of([b"other", None]), RunLengths.of([])
    parts, expected = [none], []
    for _ in range(40):
        source = (one, two)[int(rng.random() < 0.2)]
        rows = rng.integers(0, len(source), rng.integers(0, 4))
        parts.append(source.select(rows))
        expected += [list(source)[row] for row in rows]
    size = len(one.text) + len(two.text)
    joined = RunLengths.joined(parts)
    assert list(joined) == expected and joined.text is one.text and len(joined.text) <= size
    assert list(one) == COUNTS * 3 and list(two) == [b"other", None]
    again = RunLengths.joined([joined, two.select(slice(0, 0)), one])
    assert list(again) == expected + COUNTS * 3
