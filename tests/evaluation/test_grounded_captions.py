"""Grounded captions: the worked examples of each rule."""

from __future__ import annotations

import numpy as np
import pytest
from evaluation_worlds import dataset, encode, feed, golden, image

from partglee.evaluation import CocoEvaluator
from partglee.evaluation.grounded_captions import cider_d, matched_ious, meteor_score, phrase_recall_hits

GOLDEN = golden("referring_golden.json")
TRUTH = [np.array(m, bool) for m in GOLDEN["fixtures_gcg"]["gt"]]
FOUND = [np.array(m, bool) for m in GOLDEN["fixtures_gcg"]["dt"]]
IOU = np.array([[(a & b).sum() / (a | b).sum() for b in TRUTH] for a in FOUND])


def test_mask_pairs():
    expected = GOLDEN["gcg"]
    np.testing.assert_allclose(IOU, expected["iou"])
    pairs = matched_ious(IOU)
    assert np.mean(pairs) == pytest.approx(expected["mIoU"])
    assert sum(pairs) / len(TRUTH) == pytest.approx(expected["mIoU_over_gt"])
    assert matched_ious(np.zeros((0, 3))) == []


def test_recall():
    expected, right = GOLDEN["gcg"], np.full((3, 3), 0.9)
    wrong = right.copy()
    wrong[0, 0] = 0.2
    assert phrase_recall_hits(IOU.T, right) / 3 == pytest.approx(expected["recall"])
    assert phrase_recall_hits(IOU.T, wrong) / 3 == pytest.approx(expected["recall_bad_phrase_reference"])
    continued = phrase_recall_hits(IOU.T, wrong, stop_at_first_miss=False)
    assert continued / 3 == pytest.approx(expected["recall_bad_phrase_continue"])


@pytest.mark.parametrize(
    ("name", "order", "scores"),
    [
        ("order_tp_tp_fp", [0, 1, 2], [1, 1, 1]),
        ("order_fp_tp_tp", [2, 0, 1], [1, 1, 1]),
        ("scored", [2, 0, 1], [0.1, 0.9, 0.8]),
    ],
)
def test_ap_of_equal_scores_depends_on_the_order(name, order, scores):
    def shape(mask):
        return {"bbox": [0.0, 0.0, 4.0, 4.0], "area": float(mask.sum()), "segmentation": encode(mask)}

    truth = dataset([image(1)], [(1, 1, shape(mask)) for mask in TRUTH], [{"id": 1, "name": "o"}])
    rows = [
        {"image_id": 1, "category_id": 1, "segmentation": encode(FOUND[k]), "score": s}
        for k, s in zip(order, scores, strict=True)
    ]
    results = feed(CocoEvaluator(ground_truth=truth, kinds=("segm",)), rows)
    ours = [results[f"segm/{key}"] / 100 for key in ("AP", "AP50", "AP75")]
    np.testing.assert_allclose(ours, GOLDEN["gcg_ap"][name], atol=1e-9)


def test_cider():
    references = [["a dog on the grass"], ["two cups on a wooden table"]]
    hypotheses = ["a dog on grass", "two cups on a wooden table"]
    scores = cider_d(references, hypotheses)
    np.testing.assert_allclose(scores, GOLDEN["cider"]["per_image"], atol=1e-9)
    assert np.mean(scores) == pytest.approx(GOLDEN["cider"]["mean"])
    assert cider_d(references[:1], hypotheses[:1]) == [GOLDEN["cider"]["one_image_corpus"]]


def test_meteor_from_counts():
    """ "a dog on grass" against "a dog on the grass": content words dog, grass; two runs of matched words."""
    score = meteor_score(matched=(2, 2), hypothesis=(2, 2), reference=(2, 3), chunks=2)
    assert score == pytest.approx(GOLDEN["meteor_hyp0"]["score"], abs=1e-12)
    assert meteor_score(matched=(0, 0), hypothesis=(1, 1), reference=(1, 1), chunks=0) == 0
