"""OV-PARTS metrics: the worked example with its three variants, and the rules pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from evaluation_worlds import golden

from partglee.evaluation import PredictionError, SemanticPartEvaluator, compose_part_map

X, K = 255, 6
GT_A = np.array([[X, X, 0, 0], [X, 1, 1, 0], [1, 1, 1, X], [1, 1, X, X]])
OBJECT_A = np.array([[0, 0, 1, 1], [0, 1, 1, 1], [1, 1, 1, 1], [1, 1, 0, 0]], bool)
GT_B = np.array([[3, 3, X, X], [3, 4, 4, X], [4, 4, 4, 4], [X, X, 5, 5]])
# K stands for pixels outside the object, which are never read
ORACLE_A = np.array([[K, K, 0, 0], [K, 1, 0, 0], [1, 1, 1, 2], [1, 2, K, K]])
ORACLE_B = np.array([[3, 3, K, K], [4, 4, 4, K], [4, 4, 4, 4], [K, K, 4, 4]])
ALL_A = np.array([[3, K, 0, 0], [K, 1, 0, K], [1, 1, 4, 2], [1, 2, K, K]])
ALL_B = np.array([[3, 3, K, 1], [4, 4, 4, K], [4, 4, 4, K], [K, K, 4, 4]])


def run(mode):
    evaluator = SemanticPartEvaluator(num_classes=K, base_classes=[0, 1, 2], mode=mode)
    first, second = (ORACLE_A, ORACLE_B) if mode == "oracle_obj" else (ALL_A, ALL_B)
    evaluator.process("A", first, GT_A, object_mask=OBJECT_A)
    evaluator.process("B", second, GT_B, object_mask=GT_B != X)
    return evaluator


@pytest.mark.parametrize("mode", ["oracle_obj", "pred_all"])
def test_worked_example(mode):
    expected = golden("part_eval_golden.json")[mode]
    evaluator = run(mode)
    true, annotated, predicted = evaluator.counts()
    assert (true.tolist(), annotated.tolist(), predicted.tolist()) == tuple(expected[k] for k in ("tp", "gt", "pred"))
    results = evaluator.evaluate()
    names = {"base": "mIoU-base", "novel": "mIoU-novel", "hIoU": "hIoU", "all": "mIoU"}
    for variant in set(expected) & set("ABC"):
        for key, value in expected[variant].items():
            assert results[f"{variant}/{names[key]}"] == pytest.approx(value, abs=5e-5)
    union = annotated + predicted - true
    for value, t, u in zip(expected["iou"], true, union, strict=True):
        assert value == pytest.approx(t / u, abs=5e-7)


def test_recall_by_hand():
    results = run("oracle_obj").evaluate()
    assert results["recall/mRecall-base"] == pytest.approx(100 * (3 / 3 + 5 / 7) / 2)
    assert results["recall/mRecall-novel"] == pytest.approx(100 * (2 / 3 + 6 / 6 + 0 / 2) / 3)


def test_composition():
    expected = golden("part_eval_golden.json")["compose"]
    scores = np.array([[0.9, 0.1, 0.7], [0.2, 0.8, 0.1], [0.6, 0.0, 0.9]])
    masks = np.array([[[0.9, 0.1], [0.8, 0.2]], [[0.1, 0.9], [0.6, 0.9]], [[0.9, 0.3], [0.1, 0.0]]])
    np.testing.assert_allclose(np.einsum("qc,qhw->chw", scores, masks), expected["scores"], atol=5e-5)
    assert compose_part_map(scores, masks, allowed=[0, 1]).tolist() == expected["label_map"]
    assert compose_part_map(scores, masks).tolist() == expected["unrestricted"]


def test_false_positives_off_the_labels_cost_nothing():
    truth = np.full((4, 4), X)
    truth[:2] = 1
    for mode in ("oracle_obj", "pred_all"):
        evaluator = SemanticPartEvaluator(num_classes=3, mode=mode, boundary_width=None)
        evaluator.process("a", np.ones((4, 4), int), truth, object_mask=np.ones((4, 4), bool))
        assert evaluator.evaluate()["A/mIoU"] == pytest.approx(100)


@pytest.mark.parametrize("seed", range(3))
def test_equals_counting_pixels(seed):
    rng = np.random.default_rng(seed)
    samples = [(rng.integers(0, 5, (6, 7)), rng.choice([0, 1, 2, 3, X], (6, 7))) for _ in range(4)]
    evaluator = SemanticPartEvaluator(num_classes=4, base_classes=[0, 1], mode="pred_all")
    for i, (found, truth) in enumerate(samples):
        evaluator.process(i, found, truth)
    ious = []
    for k in range(4):
        inter = sum(int(p == k and g == k) for f, t in samples for p, g in zip(f.flat, t.flat, strict=True))
        union = sum(int((p == k or g == k) and g != X) for f, t in samples for p, g in zip(f.flat, t.flat, strict=True))
        ious.append(100 * inter / union)
    results = evaluator.evaluate()
    base, novel = np.mean(ious[:2]), np.mean(ious[2:])
    assert results["B/mIoU"] == pytest.approx(np.mean(ious))
    assert results["B/hIoU"] == pytest.approx(2 * base * novel / (base + novel))


def test_boundary_of_equal_maps_and_of_a_shifted_square():
    truth = np.full((12, 12), X)
    truth[1:11, 1:11] = 0
    truth[3:8, 3:8] = 1
    evaluator = SemanticPartEvaluator(num_classes=2, mode="pred_all")
    evaluator.process("a", np.where(truth == X, 2, truth), truth)
    assert evaluator.evaluate()["boundary/mIoU"] == pytest.approx(100)
    shifted = np.zeros((12, 12), int)
    shifted[4:9, 3:8] = 1
    evaluator = SemanticPartEvaluator(num_classes=2, mode="pred_all", boundary_width=1e-9)  # a band of one pixel
    evaluator.process("a", shifted, truth)
    # Rings of 5x5 squares one row apart have 16 pixels each and share 2 x 4 on the sides.
    assert evaluator._boundary[:, 1].tolist() == [8, 16, 16]


def test_bad_input():
    truth = np.full((4, 4), X)
    truth[0, 0] = 1
    evaluator = SemanticPartEvaluator(num_classes=3, mode="pred_all")
    with pytest.raises(PredictionError, match="wrong size"):
        evaluator.process("a", np.zeros((3, 4), int), truth)
    with pytest.raises(PredictionError, match="unknown category"):
        evaluator.process("a", np.full((4, 4), 7), truth)
    evaluator.process("a", np.zeros((4, 4), int), truth)
    with pytest.raises(PredictionError, match="twice"):
        evaluator.process("a", np.zeros((4, 4), int), truth)
    evaluator.process("b", np.zeros((4, 4), int), np.full((4, 4), X))
    results = evaluator.evaluate()
    assert (results["num_samples"], results["num_samples_without_part"]) == (2, 1)
    with pytest.raises(ValueError, match="needs object_mask"):
        SemanticPartEvaluator(num_classes=3).process("a", truth, truth)


@pytest.mark.parametrize(("short", "longest"), [(7, None), (7, 9), (37, None)])
def test_truth_resized_there_and_back_pixel_by_pixel(short, longest):
    rng = np.random.default_rng(3)
    truth, predicted = rng.integers(0, 3, (10, 14)), rng.integers(0, 3, (10, 14))
    mask = rng.random((10, 14)) < 0.8
    scale = short / 10 if longest is None else min(short / 10, longest / 14)
    size = int(10 * scale + 0.5), int(14 * scale + 0.5)

    def back(image):
        there = [[image[y * 10 // size[0], x * 14 // size[1]] for x in range(size[1])] for y in range(size[0])]
        return np.array([[there[y * size[0] // 10][x * size[1] // 14] for x in range(14)] for y in range(10)])

    expected = SemanticPartEvaluator(num_classes=3)
    expected.process("a", predicted, back(truth), object_mask=back(mask))
    found = SemanticPartEvaluator(num_classes=3, resize_truth=short, resize_truth_max=longest)
    found.process("a", predicted, truth, object_mask=mask)
    assert (back(truth) != truth).any()
    assert all(np.array_equal(a, b) for a, b in zip(found.counts(), expected.counts(), strict=True))
    missing = SemanticPartEvaluator(num_classes=3, resize_truth=short, resize_truth_max=longest)
    missing.process_missing("a", truth)
    assert missing.counts()[1].tolist() == np.bincount(back(truth).ravel(), minlength=3).tolist()


def test_nothing_processed_is_nan_with_a_warning():
    with pytest.warns(UserWarning, match="no predictions"):
        results = SemanticPartEvaluator(num_classes=3, base_classes=[0]).evaluate()
    assert np.isnan(results["A/hIoU"])
