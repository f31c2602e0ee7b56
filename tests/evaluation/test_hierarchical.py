"""Hierarchical AP and parent accuracy: examples worked by hand, and an oracle in plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from evaluation_worlds import dataset, feed, image, pycocotools_stats, random_world, rect, result

from partglee.evaluation import HierarchicalEvaluator, PredictionError
from partglee.evaluation.average_precision import RECALL_POINTS

SIZE = (20, 20)
CATEGORIES = [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}, {"id": 3, "name": "dog:head"}]
LEFT, RIGHT = rect(0, 10, 0, 10, SIZE), rect(10, 20, 10, 20, SIZE)
HEAD_L, HEAD_R = rect(0, 4, 0, 4, SIZE), rect(12, 16, 12, 16, SIZE)


def two_dogs():
    """Two dogs, each with its head."""
    rows = [(1, 1, LEFT), (1, 1, RIGHT), (1, 3, HEAD_L, {"parent_id": 1}), (1, 3, HEAD_R, {"parent_id": 2})]
    return dataset([image(1, SIZE)], rows, CATEGORIES)


def objects(left=1, right=1):
    return [result(1, left, LEFT, 0.9, id=1), result(1, right, RIGHT, 0.8, id=2)]


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize(
    ("parents", "classes", "hap50", "accuracy"),
    [
        ((1, 2), (1, 1), 100.0, 100.0),
        # The first head (.7) names the wrong dog: FP, then TP. Envelope .5 over recalls 0 to .5 (51 of 101).
        ((2, 2), (1, 1), 100 * 51 * 0.5 / 101, 50.0),
        ((1, None), (1, 1), 100 * 51 * 1.0 / 101, 50.0),  # TP, then a part that names no parent
        ((1, 2), (1, 2), 100 * 51 * 1.0 / 101, 50.0),  # the right place, but called a cat
        ((2, 1), (1, 1), 0.0, 0.0),
    ],
)
def test_worked_by_hand(kind, parents, classes, hap50, accuracy):
    rows = [*objects(*classes), result(1, 3, HEAD_L, 0.7, id=3, parent_id=parents[0]),
            result(1, 3, HEAD_R, 0.6, id=4, parent_id=parents[1])]  # fmt: skip
    results = feed(HierarchicalEvaluator(ground_truth=two_dogs()), rows)
    assert results[f"{kind}/AP50"] == pytest.approx(100)
    assert results[f"{kind}/hAP50"] == pytest.approx(hap50, abs=1e-9)
    assert results[f"{kind}/hAP"] == pytest.approx(hap50, abs=1e-9)  # every overlap here is exact
    assert results[f"{kind}/parent_accuracy"] == pytest.approx(accuracy)
    assert results[f"{kind}/num_matched_parts"] == 2


def test_wrong_parent_leaves_the_annotation_free():
    rows = [*objects(), result(1, 3, HEAD_L, 0.7, id=3, parent_id=2), result(1, 3, HEAD_L, 0.6, id=4, parent_id=1)]
    results = feed(HierarchicalEvaluator(ground_truth=two_dogs()), rows)
    assert results["bbox/hAP50"] == pytest.approx(100 * 51 * 0.5 / 101, abs=1e-9)
    assert results["bbox/parent_accuracy"] == 0  # the better-scored one took the match, and its parent is wrong


def test_parent_box_must_overlap_by_half():
    narrow = rect(0, 10, 0, 4, SIZE)  # IoU 0.4 with the dog
    half = rect(0, 10, 0, 5, SIZE)  # IoU 0.5
    for shape, accuracy in ((narrow, 0.0), (half, 100.0)):
        rows = [result(1, 1, shape, 0.9, id=1), result(1, 3, HEAD_L, 0.7, id=3, parent_id=1)]
        results = feed(HierarchicalEvaluator(ground_truth=two_dogs()), rows)
        assert (results["segm/parent_accuracy"], results["bbox/parent_accuracy"]) == pytest.approx((accuracy, accuracy))


def test_annotated_part_without_parent_is_ignored():
    truth = two_dogs()
    del truth["annotations"][3]["parent_id"]
    rows = [*objects(), result(1, 3, HEAD_R, 0.9, id=3, parent_id=1), result(1, 3, HEAD_L, 0.6, id=4, parent_id=1)]
    results = feed(HierarchicalEvaluator(ground_truth=truth), rows)
    assert results["bbox/hAP"] == pytest.approx(100)
    assert results["bbox/parent_accuracy"] == pytest.approx(100)
    assert results["bbox/num_parts_without_parent"] == 1
    assert results["bbox/num_matched_parts"] == 1


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_derived_parents(kind):
    """No parents given: the smallest dog that contains the head; a smaller cat around it only without same_object."""
    rows = [{k: v for k, v in row.items() if k != "parent_id"} for row in objects()]
    rows += [result(1, 1, rect(0, 20, 0, 20, SIZE), 0.99, id=5), result(1, 2, rect(0, 5, 0, 5, SIZE), 0.5, id=6)]
    rows += [result(1, 3, HEAD_L, 0.7, id=3), result(1, 3, HEAD_R, 0.6, id=4)]
    given = feed(HierarchicalEvaluator(ground_truth=two_dogs(), kinds=(kind,)), rows)
    derived = feed(HierarchicalEvaluator(ground_truth=two_dogs(), kinds=(kind,), parents="derived"), rows)
    loose = feed(
        HierarchicalEvaluator(ground_truth=two_dogs(), kinds=(kind,), parents="derived", same_object=False), rows
    )
    high = feed(
        HierarchicalEvaluator(ground_truth=two_dogs(), kinds=(kind,), parents="derived", min_object_score=0.85), rows
    )
    assert given[f"{kind}/parent_accuracy"] == 0
    assert (derived[f"{kind}/parent_accuracy"], derived[f"{kind}/hAP"]) == pytest.approx((100, 100))
    assert loose[f"{kind}/parent_accuracy"] == pytest.approx(50)
    assert high[f"{kind}/parent_accuracy"] == pytest.approx(
        50
    )  # the right dog (.8) is out, the large one (.99) is not it


def overlap(a, b):
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    inter = max(width, 0) * max(height, 0)
    return inter / (a[2] * a[3] + b[2] * b[3] - inter)


def oracle(truth, rows, threshold):
    """hAP at one threshold, one part category, in plain loops."""
    anns = {entry["id"]: entry for entry in truth["annotations"]}
    found = {(row["image_id"], row["id"]): row for row in rows}
    marks = []
    free = {key for key, entry in anns.items() if entry["category_id"] == 3}
    total = len(free)
    for row in sorted((r for r in rows if r["category_id"] == 3), key=lambda r: -r["score"]):
        best, best_iou = None, threshold
        for key in sorted(free):
            entry = anns[key]
            iou = overlap(row["bbox"], entry["bbox"])
            parent, annotated = found.get((row["image_id"], row.get("parent_id"))), anns[entry["parent_id"]]
            agrees = (
                parent is not None
                and parent["category_id"] == annotated["category_id"]
                and overlap(parent["bbox"], annotated["bbox"]) >= 0.5
            )
            if entry["image_id"] == row["image_id"] and agrees and iou >= best_iou:
                best, best_iou = key, iou
        free.discard(best)
        marks.append(best is not None)
    value = 0.0
    for point in RECALL_POINTS:
        reached = [sum(marks[:n]) / n for n in range(1, len(marks) + 1) if sum(marks[:n]) / total >= point]
        value += max(reached, default=0.0)
    return 100 * value / len(RECALL_POINTS)


@pytest.mark.parametrize("seed", range(5))
def test_equals_plain_loops(seed):
    rng = np.random.default_rng(seed)

    def box(inside=None):
        top, left, height, width = rng.integers(0, 12), rng.integers(0, 12), rng.integers(3, 9), rng.integers(3, 9)
        return rect(top, top + height, left, left + width, SIZE)

    anns, rows, key = [], [], 0
    for picture in range(1, 5):
        parents = []
        for _ in range(3):
            anns.append((picture, int(rng.integers(1, 3)), box()))
            parents.append(len(anns))
            key += 1
            rows.append(result(picture, anns[-1][1], anns[-1][2] if rng.random() < 0.7 else box(), 0.5, id=key))
        ids = [row["id"] for row in rows if row["image_id"] == picture]
        for _ in range(4):
            i = int(rng.integers(0, 3))
            anns.append((picture, 3, box(), {"parent_id": parents[i]}))
            for shape in (anns[-1][2], box()):
                key += 1
                guess = ids[i] if rng.random() < 0.6 else int(rng.choice(ids))
                rows.append(result(picture, 3, shape, float(rng.random()), id=key, parent_id=guess))
    truth = dataset([image(i, SIZE) for i in range(1, 5)], anns, CATEGORIES)
    results = feed(HierarchicalEvaluator(ground_truth=truth, kinds=("bbox",)), rows)
    assert results["bbox/hAP50"] == pytest.approx(oracle(truth, rows, 0.5), abs=1e-9)
    assert results["bbox/hAP75"] == pytest.approx(oracle(truth, rows, 0.75), abs=1e-9)
    assert results["bbox/hAP50"] <= results["bbox/AP50"] + 1e-9


def test_needs_part_categories():
    with pytest.raises(ValueError, match="no part categories"):
        HierarchicalEvaluator(ground_truth=dataset([image(1)], [], [{"id": 1, "name": "dog"}]))


def test_objects_of_one_id_do_not_take_parts_from_each_other() -> None:
    """The first is kept, as documented, also where the parts that name it come last."""
    rows = [*objects(), result(1, 3, HEAD_L, 0.7, id=3, parent_id=1)]
    rows[1]["id"] = 1
    with pytest.raises(PredictionError, match="two results with id 1; the first is kept"):
        feed(HierarchicalEvaluator(ground_truth=two_dogs()), rows)
    evaluator = HierarchicalEvaluator(ground_truth=two_dogs(), strict=False)
    feed(evaluator, rows)
    with pytest.warns(UserWarning, match="image given twice"):
        assert evaluator.evaluate()["bbox/parent_accuracy"] == 100


def test_parents_that_are_no_result_are_told() -> None:
    rows = [*objects(), result(1, 3, HEAD_L, 0.7, id=3, parent_id=1), result(1, 3, HEAD_R, 0.7, id=4, parent_id=77)]
    evaluator = HierarchicalEvaluator(ground_truth=two_dogs())
    feed(evaluator, rows)
    with pytest.warns(UserWarning, match="1 x parent not found; first: image 1 has no result with id 77"):
        results = evaluator.evaluate()
    assert results["issues/parent not found"] == 1 and results["bbox/parent_accuracy"] == 50


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(3))
def test_its_plain_ap_is_that_of_pycocotools(seed, kind):
    """Parts that all have a parent, objects beside them; crowds and ties too."""
    truth, rows = random_world(seed)
    for entry in truth["categories"]:
        entry["level"] = "part" if entry["id"] > 2 else "object"
    parts = {entry["id"] for entry in truth["categories"] if entry["level"] == "part"}
    owner = {  # a part of a crowd has no parent that could be found
        entry["image_id"]: entry["id"]
        for entry in truth["annotations"]
        if entry["category_id"] not in parts and not entry["iscrowd"]
    }
    annotations = [a for a in truth["annotations"] if a["category_id"] not in parts or a["image_id"] in owner]
    for entry in annotations:
        if entry["category_id"] in parts:
            entry["parent_id"] = owner[entry["image_id"]]
    truth["annotations"] = annotations
    found = feed(HierarchicalEvaluator(ground_truth=truth, kinds=(kind,)), rows)
    alone = {
        **truth, "annotations": [entry for entry in annotations if entry["category_id"] in parts],
        "categories": [entry for entry in truth["categories"] if entry["id"] in parts],
    }  # fmt: skip
    expected = pycocotools_stats(alone, [row for row in rows if row["category_id"] in parts], kind)
    assert 0 < expected[0] < 1
    assert found[f"{kind}/AP"] == pytest.approx(100 * expected[0], abs=1e-9)
    assert found[f"{kind}/AP50"] == pytest.approx(100 * expected[1], abs=1e-9)
