"""Damaged run lengths are found, sound ones never; against a slow decoder."""

from __future__ import annotations

import numpy as np
import pytest
from evaluation_worlds import dataset, encode, image, rect, result
from pycocotools import mask as rle

from partglee.data.segmentation import damaged_run_lengths, wrong_run_list
from partglee.evaluation import CocoEvaluator, PredictionError

SIZE = (13, 17)
PIXELS = SIZE[0] * SIZE[1]


def slow_runs(text: bytes) -> list[int]:
    """The format's definition, one character at a time."""
    runs: list[int] = []
    at = 0
    while at < len(text):
        value, k, more = 0, 0, True
        while more:
            if at == len(text):
                raise ValueError("ends inside a number")
            code = text[at] - 48
            if not 0 <= code < 64:
                raise ValueError("character")
            value |= (code & 31) << (5 * k)
            more = bool(code & 32)
            at, k = at + 1, k + 1
            if not more and code & 16:
                value -= 1 << (5 * k)
        runs.append(value + runs[-2] if len(runs) > 2 else value)
    return runs


def is_sound(text: bytes, pixels: int) -> bool:
    try:
        runs = slow_runs(text)
    except ValueError:
        return False
    return bool(runs) and min(runs) >= 0 and sum(runs) == pixels


def masks(count: int, seed: int = 0) -> list[bytes]:
    rng = np.random.default_rng(seed)
    noise = [rng.random(SIZE) < rng.choice([0, 0.02, 0.5, 1]) for _ in range(count)]
    return [rle.encode(np.asfortranarray(m.astype(np.uint8)))["counts"] for m in noise]


def test_sound_masks_of_any_kind() -> None:
    assert damaged_run_lengths(masks(200), [PIXELS] * 200) == {}
    assert damaged_run_lengths([], []) == {}
    large = np.zeros((3000, 2000), np.uint8, order="F")
    large[5:2900, 7:1990:3] = 1
    both = [rle.encode(large)["counts"], masks(1)[0]]
    assert damaged_run_lengths(both, [large.size, PIXELS]) == {}


def test_random_damage_agrees_with_the_slow_decoder() -> None:
    rng = np.random.default_rng(1)
    texts = []
    for text in masks(400, seed=2):
        changed = bytearray(text)
        for _ in range(rng.integers(0, 3)):
            where = rng.integers(len(changed))
            if rng.random() < 0.5:
                changed[where] = rng.integers(40, 120)
            elif len(changed) > 1:
                del changed[where]
        texts.append(bytes(changed))
    expected = {i for i, text in enumerate(texts) if not is_sound(text, PIXELS)}
    assert set(damaged_run_lengths(texts, [PIXELS] * len(texts))) == expected
    assert 50 < len(expected) < 350


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b"", "are empty"),
        (b"\xff0", "character that is none"),
        (b"P", "end inside a number"),
        (b"P" * 12 + b"1", "a number that no image needs"),
        (b"5", "cover 5 pixels, the image has 9"),
        (b"=L", "is negative"),  # 13 - 4: the sum is right
    ],
)
def test_what_is_wrong_is_told(text: bytes, what: str) -> None:
    assert what in damaged_run_lengths([text], [9])[0]


def test_uncompressed() -> None:
    assert wrong_run_list([4, 5], 9) is None
    assert "cover 8 pixels" in str(wrong_run_list([4, 4], 9))
    for bad in ([10, -1], [4.5, 4.5], ["9"], [None]):
        assert "whole numbers" in str(wrong_run_list(bad, 9))


@pytest.mark.parametrize("damage", [lambda t: t[:-1], lambda t: t + "1", lambda t: "é" + t, lambda t: ""])
def test_evaluation_refuses_them(damage: object) -> None:
    shape = rect(2, 9, 3, 9, SIZE)
    truth = dataset([image(1, SIZE)], [(1, 1, shape)], [{"id": 1, "name": "dog"}])
    good = result(1, 1, shape, 0.5)
    broken = {"size": list(SIZE), "counts": damage(encode(np.eye(*SIZE))["counts"])}  # type: ignore[operator]
    bad = {**good, "score": 0.9, "segmentation": broken}
    evaluator = CocoEvaluator(ground_truth=truth)
    with pytest.raises(PredictionError, match="mask unreadable: image 1: its run lengths"):
        evaluator.process(1, [good, bad])
    evaluator = CocoEvaluator(ground_truth=truth, strict=False)
    evaluator.process(1, [good, bad])
    with pytest.warns(UserWarning, match="mask unreadable"):
        results = evaluator.evaluate()
    assert results["issues/mask unreadable"] == 1 and results["segm/AP"] == pytest.approx(100)


def test_detections_given_twice_are_noted_and_kept() -> None:
    shape = rect(2, 9, 3, 9, SIZE)
    truth = dataset([image(1, SIZE)], [(1, 1, shape)], [{"id": 1, "name": "dog"}])
    evaluator = CocoEvaluator(ground_truth=truth)
    other = result(1, 1, rect(0, 3, 0, 3, SIZE), 0.5)
    evaluator.process(1, [result(1, 1, shape, 0.5), other, result(1, 1, shape, 0.5)])
    with pytest.warns(UserWarning, match="was the image predicted twice"):
        results = evaluator.evaluate()
    assert results["issues/detection given twice"] == 1 and results["segm/AR100"] == pytest.approx(100)
    linked = [{**result(1, 1, shape, 0.5), "id": 1}, {**other, "id": 2, "parent_id": 1}]
    with pytest.raises(PredictionError, match="image given twice: image 1 has two results with id 1"):
        CocoEvaluator(ground_truth=truth).process(1, [*linked, *linked])
    CocoEvaluator(ground_truth=truth).process(1, [{**row, "id": 7, "parent_id": None} for row in linked])
