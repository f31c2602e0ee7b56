"""PACO: aggregation, matching rules, attributes, queries."""

from __future__ import annotations

import numpy as np
import pytest
from evaluation_worlds import dataset, feed, golden, image, rect, result

from partglee.evaluation import PacoEvaluator
from partglee.evaluation.average_precision import mean_defined
from partglee.evaluation.matching import IOU_THRESHOLDS
from partglee.evaluation.paco import not_exhaustive_false_positive, object_part_ap

GOLDEN = golden("part_eval_golden.json")


def test_aggregation():
    parts = {"dog:leg": 0.2, "chair:leg": 0.4, "dog:head": 0.9, "chair:back": float("nan")}
    values, names = list(parts.values()), [key.split(":")[1] for key in parts]
    expected = GOLDEN["paco"]
    assert object_part_ap(names, values) == pytest.approx(expected["AP_opart"], abs=5e-7)
    assert mean_defined(np.array(values)) == pytest.approx(expected["flat_opart"], abs=5e-7)
    assert mean_defined(np.array([0.4, 0.6])) == pytest.approx(expected["AP_obj"], abs=5e-7)
    assert mean_defined(np.array([0.4, 0.6, *values])) == pytest.approx(expected["AP_all"], abs=5e-7)


@pytest.mark.parametrize(
    ("name", "inter", "area"), [("disjoint", 0, 8), ("small_inside", 2, 8), ("r06", 6, 16), ("big_inside", 6, 8)]
)
def test_official_rule(name, inter, area):
    answer = not_exhaustive_false_positive(np.array([float(inter)]), np.array([float(area)]))
    expected = GOLDEN["paco_ne_rule"][name]["fp_at"]
    assert [round(float(t), 2) for t in IOU_THRESHOLDS[answer]] == expected


CATEGORIES = [
    {"id": 5, "name": "dog", "supercategory": "OBJECT", "frequency": "f"},
    {"id": 2000, "name": "dog:leg", "supercategory": "PART", "frequency": "f"},
    {"id": 2001, "name": "cat:leg", "supercategory": "PART", "frequency": "f"},
]
SIZE = (20, 20)


def world(extra):
    dog = rect(0, 10, 0, 10, SIZE)
    leg = rect(8, 10, 0, 2, SIZE)
    images = [image(1, SIZE, neg_category_ids=[], not_exhaustive_category_ids=extra)]
    return dataset(images, [(1, 5, dog, {"obj_ann_id": 1}), (1, 2000, leg, {"obj_ann_id": 1})], CATEGORIES), leg


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize(
    ("extra", "false_part", "ap", "official"),
    [
        ([2000], rect(15, 18, 15, 18, SIZE), 100.0, 50.0),  # away from every dog: the official rule counts it
        ([2000], rect(2, 4, 2, 4, SIZE), 100.0, 100.0),  # a small piece inside the dog: ignored by both
        ([2000, 5], rect(15, 18, 15, 18, SIZE), 100.0, 100.0),  # dogs are not exhaustive either
        ([], rect(2, 4, 2, 4, SIZE), 50.0, 50.0),  # exhaustive: a false positive by both
    ],
)
def test_rules_on_an_image(kind, extra, false_part, ap, official):
    truth, leg = world(extra)
    rows = [result(1, 2000, false_part, 0.9), result(1, 2000, leg, 0.5)]
    results = feed(PacoEvaluator(ground_truth=truth, rules=("lvis", "official")), rows)
    assert results[f"{kind}/APopart"] == pytest.approx(ap)
    assert results[f"{kind}/APopart@official"] == pytest.approx(official)
    assert results[f"{kind}/APobj"] == 0
    assert results[f"{kind}/AP"] == pytest.approx(ap / 2)


def test_unknown_rule():
    with pytest.raises(ValueError, match="rules must be a list of lvis and official"):
        PacoEvaluator(ground_truth=world([])[0], rules=("mine",))
