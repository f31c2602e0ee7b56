"""Referring metrics: the worked examples of each rule."""

from __future__ import annotations

import numpy as np
import pytest
from evaluation_worlds import golden

from partglee.evaluation import GroundingBoxEvaluator, PredictionError, ReferringEvaluator, ReferringRules
from partglee.evaluation.referring import mask_counts, sample_iou

GOLDEN = golden("referring_golden.json")
SETS = {"G3": "s1 s2 s3", "G5": "s1 s2 s3 s4 s5", "G6": "s1 s2 s3 s4 s5 s6"}
RULES = {
    "strict_cls": ReferringRules(),
    "rela_code": ReferringRules(clear=False),
    "mask": ReferringRules(no_target="mask"),
    "either": ReferringRules(no_target="either"),
}


def mask(rows):
    return np.array(rows, bool)


def samples(names):
    for name in names.split():
        entry = GOLDEN["fixtures"][name]
        yield name, mask(entry["pred"]), mask(entry["gt"]), entry["pred_nt"], entry["gt_nt"]


@pytest.mark.parametrize("group", SETS)
@pytest.mark.parametrize("rule", RULES)
def test_gres(group, rule):
    evaluator = ReferringEvaluator(rules=RULES[rule], thresholds=(0.7, 0.8, 0.9))
    for name, found, truth, says, no_target in samples(SETS[group]):
        assert truth.any() != no_target
        evaluator.process(name, found, None if no_target else truth, says_no_target=says)
    results = evaluator.evaluate()
    expected = GOLDEN[f"gres/{group}/{rule}"]
    for ours, key in (("gIoU", "gIoU"), ("cIoU", "cIoU"), ("N-acc", "N_acc"), ("T-acc", "T_acc")):
        assert results[ours] / 100 == pytest.approx(expected[key], abs=1e-12)
    for x in (0.7, 0.8, 0.9):
        assert results[f"Pr@{x}"] / 100 == pytest.approx(expected[f"Pr@{x}"], abs=1e-12)


def test_res():
    evaluator = ReferringEvaluator()
    for name, found, truth, _, _ in samples("s1 s2"):
        evaluator.process(name, found, truth)
    results = evaluator.evaluate()
    for key, value in GOLDEN["res/s1_s2"].items():
        assert results[key] / 100 == pytest.approx(value, abs=1e-12)
    assert np.isnan(results["N-acc"])


def test_boundary_of_the_threshold():
    expected = GOLDEN["boundary"]
    truth = np.array([[1, 1, 1, 1]], bool)
    found = np.array([[1, 1, 0, 0]], bool)
    assert mask_counts(found, truth) == (expected["I"], expected["U"])
    for rules, key in (
        (ReferringRules(), "ge"),
        (ReferringRules(strictly_above=True), "gt"),
        (ReferringRules(eps=1e-6), "ge_with_eps"),
    ):
        evaluator = ReferringEvaluator(rules=rules)
        evaluator.process("a", found, truth)
        assert evaluator.evaluate()["Pr@0.5"] == 100.0 * expected[key]


def test_ignored_pixels():
    expected = GOLDEN["reasonseg_ignore"]
    target = np.array([[1, 1, 255, 0], [1, 1, 255, 0], [0] * 4, [0] * 4])
    found = np.array([[1, 1, 1, 1], [0, 0, 1, 0], [0] * 4, [0] * 4], bool)
    evaluator = ReferringEvaluator()
    evaluator.process("a", found, target == 1, ignore=target == 255)
    assert mask_counts(found, target == 1, target == 255) == (expected["I"], expected["U"])
    assert evaluator.evaluate()["mIoU"] / 100 == pytest.approx(expected["IoU"])
    inter, union = mask_counts(found, target == 1)
    assert union == expected["ignore_as_background_U"]
    assert sample_iou(inter, union, ReferringRules()) == pytest.approx(expected["ignore_as_background_IoU"])


def test_empty_union_rules():
    assert sample_iou(0, 0, ReferringRules()) == 0
    assert sample_iou(0, 0, ReferringRules(empty_is_right=True)) == 1
    assert sample_iou(0, 0, ReferringRules(eps=1e-6, eps_intersection=1e-6)) == 1


def test_small_masks_can_mean_no_target():
    evaluator = ReferringEvaluator(rules=ReferringRules(no_target="mask", min_pixels=3))
    evaluator.process("a", np.array([[1, 1, 0]], bool), None)
    assert evaluator.evaluate()["N-acc"] == 100


def test_boxes():
    evaluator = GroundingBoxEvaluator()
    evaluator.process("exact half", [[0, 0, 10, 5], [0, 0, 10, 10]], [0.9, 0.8], [0, 0, 10, 10])
    evaluator.process("best one is off", [[5, 5, 10, 10], [0, 0, 10, 10]], [0.9, 0.8], [0, 0, 10, 10])
    evaluator.process("nothing", [], [], [0, 0, 10, 10])
    results = evaluator.evaluate()
    assert results["P@0.5"] == pytest.approx(100 / 3)
    assert results["mIoU"] == pytest.approx(100 * (0.5 + 0.25) / 3)


def test_bad_input():
    evaluator = ReferringEvaluator()
    with pytest.raises(PredictionError, match="wrong size"):
        evaluator.process("a", np.zeros((3, 3), bool), np.zeros((3, 4), bool))
    evaluator.process("a", np.zeros((3, 3), bool), np.ones((3, 3), bool))
    with pytest.raises(PredictionError, match="twice"):
        evaluator.process("a", np.zeros((3, 3), bool), np.ones((3, 3), bool))
    with pytest.raises(ValueError, match="no_target must be one of"):
        ReferringRules(no_target="nobody")
    with pytest.raises(PredictionError, match="not finite"):
        GroundingBoxEvaluator().process("a", [[0, 0, 1, 1]], [float("nan")], [0, 0, 1, 1])
