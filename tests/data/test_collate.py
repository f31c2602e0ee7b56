"""Batch vocabularies, and what the annotations of a batch do not say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from partglee.data import DatasetSpec
from partglee.data.annotations.coco_json import read_coco
from partglee.data.collate import choose_names, collate, relative_boxes
from partglee.data.mapper import LevelSample, Sample
from partglee.structures import TrainingBatch, Vocabulary

VOCABULARY = Vocabulary({f"o{i}": ([f"p{i}"] if i < 6 else []) for i in range(10)})


def level(labels: list[int], size: tuple[int, int] = (20, 30), *, masks: bool = True, **fields: Any) -> LevelSample:
    boxes = np.array([[i, i, i + 4, i + 2] for i in range(len(labels))], float).reshape(-1, 4)
    shown = np.zeros((len(labels), *size), bool)
    for i in range(len(labels)):
        shown[i, i : i + 2, i : i + 4] = True
    return LevelSample(np.array(labels, np.int64), boxes, shown if masks and labels else None, **fields)


def sample(
    objects: list[int],
    parts: list[int],
    parent: list[int] | None = None,
    size: tuple[int, int] = (20, 30),
    **fields: Any,
) -> Sample:
    links = np.array([-1] * len(parts) if parent is None else parent, np.int64)
    return Sample(
        torch.zeros(3, *size, dtype=torch.uint8), level(objects, size), level(parts, size), links, "file.png", **fields
    )


def batch(*samples: Sample, seed: int = 0, min_canvas: tuple[int, int] = (1, 1), **fields: Any) -> TrainingBatch:
    spec = DatasetSpec(**{"name": "test", "annotations": "", "images": "", **fields}, reader=read_coco)
    rng = np.random.default_rng(seed)
    return collate(samples, spec=spec, vocabulary=VOCABULARY, rng=rng, divisibility=16, min_canvas=min_canvas)


def names_of(made: TrainingBatch, image: int) -> tuple[list[str], list[str]]:
    assert made.names is not None
    target = made.targets[image]
    return (
        [made.names.object_prompts[label] for label in target.objects.labels],
        [made.names.part_prompts[label] for label in target.parts.labels],
    )


def test_all_names() -> None:
    made = batch(sample([3, 0], [2], [0]), sample([], []))
    assert made.names is not None and made.names.object_prompts == VOCABULARY.object_prompts
    assert made.names.part_prompts == VOCABULARY.part_prompts and made.expressions is None
    assert names_of(made, 0) == (["o3", "o0"], ["o2 p2"]) and made.targets[0].part_parent.tolist() == [0]
    assert len(made.targets[1].objects) == 0 and len(made.targets[1].parts) == 0
    assert made.canvas == (32, 32) and made.images[0].shape == (3, 20, 30)
    assert made.supervision.objects == (None, (True, True), None) == made.supervision.parts
    assert made.source == "test" and made.files == ("file.png", "file.png") and made.unreadable == ()


def test_canvas_and_masks() -> None:
    made = batch(sample([1], [], size=(20, 30)), sample([1], [], size=(33, 8)), min_canvas=(10, 40))
    assert made.canvas == (48, 48)
    masks = made.targets[0].objects.masks
    assert masks is not None and masks.shape == (1, 48, 48) and masks.sum() == 8 and masks[0, :2, :4].all()
    assert torch.allclose(made.targets[0].objects.boxes, torch.tensor([[2.0, 1.0, 4.0, 2.0]]) / 48)


def test_relative_boxes() -> None:
    boxes = relative_boxes(np.array([[0.0, 10.0, 50.0, 20.0]]), (40, 100))
    assert torch.allclose(boxes, torch.tensor([[0.25, 0.375, 0.5, 0.25]])) and boxes.dtype == torch.float32
    assert relative_boxes(np.zeros((0, 4)), (40, 100)).shape == (0, 4)


# -- names -----------------------------------------------------------------------------------------------------------


def test_sampled_names_hold_all_positives() -> None:
    seen: set[str] = set()
    for seed in range(40):
        made = batch(sample([7, 1], [4]), sample([1], []), sampled_names=4, seed=seed)
        assert made.names is not None and len(made.names.object_prompts) == 4 and len(made.names.part_prompts) == 4
        assert names_of(made, 0) == (["o7", "o1"], ["o4 p4"]) and names_of(made, 1) == (["o1"], [])
        assert list(made.names.object_prompts) == sorted(made.names.object_prompts)
        seen |= set(made.names.object_prompts)
    assert seen == set(VOCABULARY.object_prompts), "the others are random"
    first, second = (batch(sample([7], []), sampled_names=4, seed=5).names for _ in range(2))
    assert first == second


@pytest.mark.parametrize("seed", range(20))
def test_choose_names(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count, sampled = (int(n) for n in rng.integers(1, 30, size=2))
    positives, looked_for = (set(rng.integers(0, count, size=rng.integers(0, 9)).tolist()) for _ in range(2))
    chosen = choose_names(
        num_names=count, positives=positives, looked_for=looked_for, sampled=sampled, rng=rng
    ).tolist()
    assert chosen == sorted(set(chosen)) and set(chosen) <= set(range(count)) and positives <= set(chosen)
    assert len(chosen) == min(max(sampled, len(positives)), count)
    if len(chosen) > len(positives | looked_for):
        assert looked_for <= set(chosen)  # names that were looked for come before names that supervise nothing


def test_one_name_and_none() -> None:
    rng = np.random.default_rng(0)
    assert choose_names(num_names=1, positives=[], sampled=5, rng=rng).tolist() == [0]
    assert choose_names(num_names=0, positives=[], sampled=5, rng=rng).tolist() == []
    assert choose_names(num_names=3, positives=[2], sampled=0, rng=rng).tolist() == [0, 1, 2]


# -- what is not annotated -------------------------------------------------------------------------------------------


def test_objects_alone() -> None:
    made = batch(sample([1], [2]), supervises_parts=False)
    assert made.names is not None and made.names.part_prompts == ()
    assert len(made.targets[0].parts) == 0 and made.supervision.parts.background == (False,)


def test_parts_alone() -> None:
    made = batch(sample([1], [2], [0]), supervises_objects=False)
    assert made.names is not None and len(made.names.object_prompts) == 10
    assert len(made.targets[0].objects) == 0 and made.targets[0].part_parent.tolist() == [-1]
    assert made.supervision.objects.background == (False,) and made.supervision.parts.background == (True,)


def test_unlabelled_background() -> None:
    made = batch(sample([1], [2]), object_background="unlabelled")
    assert made.supervision.objects == (None, (False,), None) and made.supervision.parts.background == (True,)


def test_labelled_inside_the_objects() -> None:
    made = batch(sample([1, 2], [2]), sample([], []), object_background="inside", part_background="inside")
    for one in made.supervision:
        assert one.background == (True, True) and one.labelled is not None and one.labelled[0] is not None
        assert torch.equal(one.labelled[0], made.targets[0].objects.boxes)
        assert one.labelled[1] is not None and one.labelled[1].shape == (0, 4)


def test_federated_negatives() -> None:
    """True = annotators looked for every instance: found exhaustively, or not found."""
    first = sample([3, 5], [])
    first = first._replace(objects=first.objects._replace(negative=frozenset({0, 1}), not_exhaustive=frozenset({5})))
    second = sample([2], [])
    second = second._replace(objects=second.objects._replace(negative=frozenset()))
    made = batch(first, second, sample([4], []))
    negatives = made.supervision.objects.negatives
    assert negatives is not None and negatives.dtype == torch.bool
    assert [row.nonzero().ravel().tolist() for row in negatives] == [[0, 1, 3], [2], list(range(10))]
    assert made.supervision.parts.negatives is None
    sampled = batch(first, second, sampled_names=5)
    assert sampled.names is not None and sampled.names.object_prompts == ("o0", "o1", "o2", "o3", "o5")
    assert sampled.supervision.objects.negatives is not None
    assert sampled.supervision.objects.negatives.tolist() == [
        [True, True, False, True, False],
        [False, False, True, False, False],
    ]


def test_expressions() -> None:
    made = batch(sample([7], [], expression="the red one"), sample([2], [], expression="a"), sampled_names=3)
    assert made.names is None and made.expressions == ("the red one", "a")
    assert [target.objects.labels.tolist() for target in made.targets] == [[0], [0]]
    assert made.supervision.objects == (None, (True, True), None) and made.supervision.parts.background == (
        False,
        False,
    )
    with pytest.raises(ValueError, match=r"'test'.*'file.png' has none"):
        batch(sample([7], [], expression="the red one"), sample([2], []))


def test_images_without_masks() -> None:
    one = sample([1], [2])
    made = batch(one._replace(objects=level([1], masks=False)), one)
    assert made.targets[0].objects.masks is None and made.targets[1].objects.masks is not None


def test_an_instance_without_mask() -> None:
    one = sample([1, 2], [2])
    assert one.objects.masks is not None
    masks = one.objects.masks.copy()
    masks[0] = False
    made = batch(one._replace(objects=one.objects._replace(masks=masks)), one)
    assert made.targets[0].objects.with_mask is not None
    assert made.targets[0].objects.with_mask.tolist() == [False, True]
    assert made.targets[1].objects.with_mask is None and made.targets[0].parts.with_mask is None
    moved = made.targets[0].to("cpu").objects
    assert moved.with_mask is not None and moved.with_mask.tolist() == [False, True]
