"""Grounded captions and LISA's meters: the worked examples of each rule."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from mglmm.metrics import cider_d, lisa_meters, matched_ious, meteor_score, phrase_recall_hits

GOLDEN = json.loads((Path(__file__).resolve().parents[3] / "tests" / "golden" / "referring_golden.json").read_text())
SETS = {"G3": "s1 s2 s3", "G5": "s1 s2 s3 s4 s5", "G6": "s1 s2 s3 s4 s5 s6"}
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


def mask_counts(names: str) -> list[tuple[int, int]]:
    """(I, U) of some of the worked samples."""
    pairs = [[np.array(GOLDEN["fixtures"][name][key], bool) for key in ("pred", "gt")] for name in names.split()]
    return [(int((found & truth).sum()), int((found | truth).sum())) for found, truth in pairs]


@pytest.mark.parametrize("group", SETS)
def test_lisa(group):
    expected, ours = GOLDEN[f"lisa/{group}"], lisa_meters(mask_counts(SETS[group]))
    assert ours["gIoU"] == pytest.approx(expected["gIoU"], abs=1e-12)
    assert ours["cIoU"] == pytest.approx(expected["cIoU"], abs=1e-12)
    np.testing.assert_allclose(ours["per_sample"], expected["per_sample"], atol=1e-12)


def test_lisa_image_level_averaging():
    expected, ours = GOLDEN["lisa/meter"], lisa_meters(mask_counts("s1 s2 s4"))
    assert ours["gIoU"] == pytest.approx(expected["weighted"], abs=1e-12)
    assert ours["gIoU_reduced"] == pytest.approx(expected["after_all_reduce"], abs=1e-12)
    assert ours["cIoU"] == pytest.approx(expected["cIoU"], abs=1e-12)
