"""Errors of hand-made predictions are told as what they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from evaluation_worlds import dataset, encode, image, random_world, rect, result

from partglee.evaluation import CocoEvaluator, GroundTruth
from partglee.evaluation.detections import merge_states
from partglee.evaluation.error_report import chosen_images, confusions, markdown_report, parent_confusions
from partglee.evaluation.errors import OUTCOMES, analyse, best_threshold

SIZE = (100, 100)
CATEGORIES = [
    {"id": 1, "name": "dog"},
    {"id": 2, "name": "cat"},
    {"id": 3, "name": "dog:head"},
    {"id": 4, "name": "dog:tail"},
]


def box(top: int, left: int, side: int) -> dict[str, Any]:
    return rect(top, top + side, left, left + side, SIZE)


def world(kind: str = "segm") -> tuple[GroundTruth, Any]:
    rows = [
        (1, 1, box(0, 0, 50)), (1, 1, box(50, 50, 50)),  # two dogs
        (1, 3, box(0, 0, 20), {"parent_id": 1}), (1, 4, box(30, 30, 8), {"parent_id": 1}),
        (1, 3, box(50, 50, 20), {"parent_id": 2}), (1, 4, box(80, 80, 18), {"parent_id": 2}),
        (2, 3, box(0, 0, 40), {"iscrowd": 1}),
    ]  # fmt: skip
    annotations = dataset([image(1, SIZE), image(2, SIZE), image(3, SIZE)], rows, CATEGORIES)
    found = [
        result(1, 1, box(0, 0, 50), 0.9, id=1), result(1, 2, box(50, 50, 50), 0.8, id=2),
        result(1, 3, box(0, 0, 20), 0.9, id=3, parent_id=1),  # found, right parent
        result(1, 3, box(30, 30, 8), 0.8, id=4, parent_id=1),  # the small tail, called a head
        result(1, 3, box(50, 50, 18), 0.7, id=5, parent_id=2),  # found, its parent is called a cat
        result(1, 4, box(70, 70, 22), 0.7, id=6, parent_id=2),  # the large tail, badly placed
        result(1, 4, box(0, 80, 10), 0.1, id=7),  # too weak to look at
        result(2, 4, box(50, 50, 10), 0.9, id=1),  # nothing there
    ]  # fmt: skip
    evaluator = CocoEvaluator(ground_truth=annotations, kinds=(kind,))
    for key in (1, 2, 3):
        evaluator.process(key, [row for row in found if row["image_id"] == key])
    return evaluator.ground_truth, merge_states([evaluator.state()], evaluator.issues, 3)


@pytest.mark.parametrize("kind", ["segm", "bbox"])
def test_every_kind_of_error(kind: str) -> None:
    truth, detections = world(kind)
    analysis = analyse(truth, detections, kind=kind, threshold=0.5)
    assert [(o.truth, o.what) for o in analysis.outcomes] == [
        (2, "found"), (3, "other name"), (4, "found"), (5, "badly placed"),
    ]  # fmt: skip
    assert analysis.level == "part" and [truth.category[o.truth] for o in analysis.outcomes] == [2, 3, 2, 3]
    assert [p.what for p in analysis.parents] == ["right", "an object of another category"]
    assert dict(confusions(analysis, truth, detections)) == {("dog:tail", "dog:head"): 1}
    assert dict(parent_confusions(analysis, truth, detections)) == {("dog:head", "dog", "cat"): 1}
    assert len(analysis.false_positives) == 2  # the badly placed tail, and the one in image 2
    # Image 1: 3 of 6 annotations found by 6 detections; image 2: a false positive; image 3: nothing.
    assert [i.f1 for i in analysis.images] == pytest.approx([2 * 3 / 12, 0, 1])
    assert chosen_images(analysis, 2) == ([0], [])


def test_the_other_parents() -> None:
    truth, detections = world()
    detections.parent[4] = 0  # the head of the second dog, said to be the first one's
    analysis = analyse(truth, detections, kind="segm", threshold=0.5)
    assert [p.what for p in analysis.parents] == ["right", "another object of the category"]
    assert ("dog:head", "dog", "another dog") in parent_confusions(analysis, truth, detections)
    detections.parent[4] = -1
    analysis = analyse(truth, detections, kind="segm", threshold=0.5)
    assert [p.what for p in analysis.parents] == ["right", "none"]


def test_report_holds_the_findings() -> None:
    truth, detections = world()
    analysis = analyse(truth, detections, kind="segm", threshold=0.5)
    results = {"segm/AP": 12.345, "segm/num_x": 3.0, "segm/AP50": float("nan")}
    text = markdown_report(
        analysis, truth, detections, title="Errors | of it", results=results, pictures={0: "pictures/1.jpg"}
    )
    lines = text.splitlines()
    assert "| segm/AP | 12.35 |" in lines or "| segm/AP | 12.34 |" in lines
    assert "AP50" not in text and "num_x" not in text
    assert "| 2 | 1 | 1 | 0 | 2 |" in lines
    assert "| 0 to 16 | 1 | 0 (0 %) | 1 (100 %) | 0 (0 %) | 0 (0 %) |" in lines
    assert "| dog:tail | dog:head | 1 | [picture](pictures/1.jpg) |" in lines
    assert "| dog:head | dog | cat | 1 | [picture](pictures/1.jpg) |" in lines
    assert "- `1.jpg` (id 1): F1 0.50, 6 annotated, 6 detected" in lines


def test_best_threshold_against_trying_all() -> None:
    annotations, rows = random_world(3)
    evaluator = CocoEvaluator(ground_truth=annotations, kinds=("bbox",))
    truth = evaluator.ground_truth
    for key in truth.image_ids.tolist():
        evaluator.process(key, [row for row in rows if row["image_id"] == key])
    detections = merge_states([evaluator.state()], evaluator.issues, len(truth.image_ids))

    def f1(threshold: float) -> float:
        # Crowds are ignored annotations, which this oracle has none of.
        analysis = analyse(truth, detections, kind="bbox", threshold=threshold)
        hits = sum(o.what == "found" for o in analysis.outcomes)
        return 2 * hits / (len(analysis.outcomes) + int((detections.score >= threshold).sum()))

    truth.crowd[:] = False
    found = best_threshold(truth, detections, kind="bbox")
    assert f1(found) == pytest.approx(max(map(f1, np.unique(detections.score))))
    assert analyse(truth, detections, kind="bbox").threshold == found
    assert analyse(truth, detections, kind="bbox").level == "object"


def test_nothing_found_and_nothing_annotated() -> None:
    annotations = dataset([image(1, SIZE)], [], CATEGORIES)
    evaluator = CocoEvaluator(ground_truth=annotations, kinds=("bbox",))
    evaluator.process(1, [])
    detections = merge_states([evaluator.state()], evaluator.issues, 1)
    analysis = analyse(evaluator.ground_truth, detections, kind="bbox")
    assert analysis.outcomes == () and analysis.images[0].f1 == 1 and analysis.threshold == 0
    text = markdown_report(analysis, evaluator.ground_truth, detections, title="x", results={}, pictures={})
    assert "none" in text and len(OUTCOMES) == 4


def test_masks_that_are_missing() -> None:
    truth, detections = world("bbox")
    detections.counts.length[2] = -1
    with pytest.raises(ValueError, match="kind 'bbox'"):
        analyse(truth, detections, kind="segm", threshold=0.5)
    assert encode(np.eye(3))["size"] == [3, 3]
