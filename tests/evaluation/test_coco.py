"""COCO AP against pycocotools and the worked example."""

from __future__ import annotations

import json

import numpy as np
import pytest
from evaluation_worlds import (
    dataset,
    encode,
    feed,
    golden,
    image,
    pycocotools_stats,
    random_world,
    rect,
    result,
    shared,
)

from partglee.evaluation import CocoEvaluator

COLUMNS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def columns(results, kind):
    return np.nan_to_num(np.array([results[f"{kind}/{c}"] for c in COLUMNS]) / 100, nan=-1.0)


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_worked_example(kind):
    a, b, wide, other = rect(0, 2, 0, 2), rect(2, 4, 2, 4), rect(2, 4, 1, 4), rect(0, 2, 2, 4)
    truth = dataset([image(1)], [(1, 1, a), (1, 1, b)], [{"id": 1, "name": "a"}])
    rows = [result(1, 1, a, 0.9), result(1, 1, other, 0.85), result(1, 1, wide, 0.8)]
    results = feed(CocoEvaluator(ground_truth=truth), rows)
    for key, value in golden("part_eval_golden.json")["coco"].items():
        assert results[f"{kind}/{key}"] / 100 == pytest.approx(value, abs=5e-7)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_equals_pycocotools_on_random_worlds(seed, kind):
    truth, rows = random_world(seed)
    ours = columns(feed(CocoEvaluator(ground_truth=truth, kinds=(kind,)), rows), kind)
    np.testing.assert_allclose(ours, pycocotools_stats(truth, rows, kind), atol=1e-12)


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_equals_pycocotools_on_the_published_sample(kind):
    folder = shared("data/golden_evaluators")
    truth = json.loads((folder / "faster_coco_eval/tests/dataset/cocoapi/instances_val2014_100.json").read_text())
    short = {"bbox": "bbox", "segm": "segm"}[kind]
    rows = json.loads((folder / f"cocoapi/results/instances_val2014_fake{short}100_results.json").read_text())
    ids = {entry["id"] for entry in truth["images"]}
    assert {row["image_id"] for row in rows} <= ids
    ours = columns(feed(CocoEvaluator(ground_truth=truth, kinds=(kind,)), rows), kind)
    np.testing.assert_allclose(ours, pycocotools_stats(truth, rows, kind), atol=5e-7)
    published = (folder / "cocoapi/results/val2014_fake_eval_res.txt").read_text().split("type=")
    table = next(part for part in published if part.startswith(kind))
    numbers = [float(line.rsplit("=", 1)[1]) for line in table.splitlines() if "] = " in line]
    np.testing.assert_allclose(ours, numbers, atol=5.1e-4)


def test_equals_faster_coco_eval():
    faster = pytest.importorskip("faster_coco_eval")
    truth, rows = random_world(7)
    gt = faster.COCO(json.loads(json.dumps(truth)))
    dt = gt.loadRes([{k: v for k, v in row.items() if k != "segmentation"} for row in rows])
    scorer = faster.COCOeval_faster(gt, dt, "bbox", print_function=lambda *_: None)
    scorer.evaluate(), scorer.accumulate(), scorer.summarize()
    ours = columns(feed(CocoEvaluator(ground_truth=truth, kinds=("bbox",)), rows), "bbox")
    np.testing.assert_allclose(ours, scorer.stats[:12], atol=1e-9)


def test_annotation_id_zero_counts():
    a = rect(0, 2, 0, 2)
    truth = dataset([image(1)], [(1, 1, a, {"id": 0})], [{"id": 0, "name": "a"}, {"id": 1, "name": "b"}])
    truth["annotations"][0]["category_id"] = 0
    results = feed(CocoEvaluator(ground_truth=truth), [result(1, 0, a, 0.5)])
    assert (results["bbox/AP"], results["segm/AP"]) == pytest.approx((100, 100))


def test_hundred_detections_for_each_class_and_image():
    a, far = rect(0, 2, 0, 2), rect(2, 4, 2, 4)
    truth = dataset([image(1)], [(1, 1, a)], [{"id": 1, "name": "a"}])
    rows = [result(1, 1, far, 0.9)] * 100 + [result(1, 1, a, 0.1)]
    assert feed(CocoEvaluator(ground_truth=truth, kinds=("bbox",)), rows)["bbox/AP"] == 0
    assert feed(CocoEvaluator(ground_truth=truth, kinds=("bbox",), max_dets=101), rows)["bbox/AP"] > 0


def test_category_without_annotations_is_left_out():
    a = rect(0, 2, 0, 2)
    truth = dataset([image(1)], [(1, 1, a)], [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}])
    results = feed(CocoEvaluator(ground_truth=truth, per_category=True), [result(1, 1, a, 0.9), result(1, 2, a, 0.9)])
    assert results["bbox/AP"] == pytest.approx(100)
    assert np.isnan(results["bbox/AP-b"])
    assert np.isnan(results["bbox/APl"])


def test_an_annotation_without_a_box() -> None:
    entry = {"id": 3, "image_id": 1, "category_id": 1, "area": 4.0}
    for more in ({}, {"bbox": None}, {"bbox": [1, 2, 3]}, {"bbox": "a"}):
        content = {"images": [{"id": 1}], "categories": [{"id": 1, "name": "dog"}], "annotations": [{**entry, **more}]}
        with pytest.raises(ValueError, match="annotation 3: bbox must be four finite numbers"):
            CocoEvaluator(ground_truth=content)


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

    fixtures = golden("referring_golden.json")["fixtures_gcg"]
    annotated, found = ([np.array(mask, bool) for mask in fixtures[key]] for key in ("gt", "dt"))
    truth = dataset([image(1)], [(1, 1, shape(mask)) for mask in annotated], [{"id": 1, "name": "o"}])
    rows = [
        {"image_id": 1, "category_id": 1, "segmentation": encode(found[k]), "score": s}
        for k, s in zip(order, scores, strict=True)
    ]
    results = feed(CocoEvaluator(ground_truth=truth, kinds=("segm",)), rows)
    ours = [results[f"segm/{key}"] / 100 for key in ("AP", "AP50", "AP75")]
    np.testing.assert_allclose(ours, golden("referring_golden.json")["gcg_ap"][name], atol=1e-9)
