"""LVIS AP against the lvis package and the worked example."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from evaluation_worlds import dataset, encode, feed, golden, image, random_world, rect, result, shared

from partglee.evaluation import CocoEvaluator, LvisEvaluator

COLUMNS = {"AP": "AP", "AP50": "AP50", "AP75": "AP75", "APs": "APs", "APm": "APm", "APl": "APl", "APr": "APr",
           "APc": "APc", "APf": "APf", "AR300": "AR@300"}  # fmt: skip


def lvis_stats(truth, rows, kind, tmp_path, monkeypatch):
    """Numbers of the lvis package (0.5.3 still says np.float, which numpy no longer has)."""
    monkeypatch.setattr(np, "float", float, raising=False)
    lvis = pytest.importorskip("lvis", reason="parity test needs the lvis package")
    logging.getLogger("lvis").setLevel(logging.ERROR)
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(truth))
    gt = lvis.LVIS(str(path))
    keep = {"bbox": "segmentation", "segm": "bbox"}[kind]
    found = lvis.LVISResults(gt, [{k: v for k, v in row.items() if k != keep} for row in rows])
    scorer = lvis.LVISEval(gt, found, kind)
    scorer.run()
    return np.array([scorer.get_results()[name] for name in COLUMNS.values()])


def ours(truth, rows, kind):
    results = feed(LvisEvaluator(ground_truth=truth, kinds=(kind,)), rows)
    return np.nan_to_num(np.array([results[f"{kind}/{c}"] for c in COLUMNS]) / 100, nan=-1.0)


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_worked_example(kind):
    a, b, other = rect(0, 2, 0, 2), rect(2, 4, 2, 4), rect(0, 2, 2, 4)
    images = [
        image(1, neg_category_ids=[2], not_exhaustive_category_ids=[]),
        image(2, neg_category_ids=[], not_exhaustive_category_ids=[1]),
        image(3, neg_category_ids=[], not_exhaustive_category_ids=[]),
    ]
    cats = [{"id": 1, "name": "a", "frequency": "f"}, {"id": 2, "name": "b", "frequency": "r"}]
    truth = dataset(images, [(1, 1, a), (2, 1, a), (2, 2, b)], cats)
    rows = [result(1, 1, a, 0.9), result(1, 2, other, 0.8), result(2, 2, b, 0.7), result(2, 1, a, 0.6),
            result(2, 1, other, 0.85), result(3, 1, a, 0.95)]  # fmt: skip
    expected = golden("part_eval_golden.json")["lvis"]
    results = feed(LvisEvaluator(ground_truth=truth), rows)
    for key in ("AP", "APf", "APr"):
        assert results[f"{kind}/{key}"] / 100 == pytest.approx(expected[key], abs=1e-9)
    coco = feed(CocoEvaluator(ground_truth=truth), rows)
    assert coco[f"{kind}/AP"] / 100 == pytest.approx(expected["coco_style_AP"], abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_equals_lvis_on_random_worlds(seed, kind, tmp_path, monkeypatch):
    truth, rows = random_world(seed, lvis=True)
    np.testing.assert_allclose(ours(truth, rows, kind), lvis_stats(truth, rows, kind, tmp_path, monkeypatch), atol=1e-9)


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_equals_lvis_where_things_have_no_area(kind, tmp_path, monkeypatch):
    truth, rows = random_world(5, lvis=True)
    nothing = {"bbox": [3.0, 3.0, 0.0, 0.0], "segmentation": encode(np.zeros((160, 200)))}
    for entry in truth["annotations"][::4]:
        entry.update(nothing, area=0)
    for row in rows[::5]:
        row.update(nothing)
    np.testing.assert_allclose(ours(truth, rows, kind), lvis_stats(truth, rows, kind, tmp_path, monkeypatch), atol=1e-9)


def test_three_hundred_an_image_over_all_classes(tmp_path, monkeypatch):
    truth, rows = random_world(3, images=2, lvis=True)
    rng = np.random.default_rng(0)
    many = [{**rows[i % len(rows)], "score": float(s)} for i, s in enumerate(rng.random(900))]
    np.testing.assert_allclose(
        ours(truth, many, "bbox"), lvis_stats(truth, many, "bbox", tmp_path, monkeypatch), atol=1e-9
    )


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_equals_lvis_on_the_lvis_sample(kind, tmp_path, monkeypatch):
    """Real LVIS annotations (v0.5, 100 images); predictions are made by shifting annotations."""
    truth = json.loads(shared("data/golden_evaluators/lvis/data/lvis_val_100.json").read_text())
    rng = np.random.default_rng(0)
    sizes = {entry["id"]: (entry["height"], entry["width"]) for entry in truth["images"]}
    used = {entry["category_id"] for entry in truth["annotations"]}
    rows = []
    for entry in truth["annotations"]:
        height, width = sizes[entry["image_id"]]
        x, y, w, h = np.array(entry["bbox"]) + rng.normal(0, 2, 4)
        mask = np.zeros((height, width), bool)
        mask[max(0, int(y)) : int(y + h) + 1, max(0, int(x)) : int(x + w) + 1] = True
        category = entry["category_id"] if rng.random() < 0.8 else int(rng.choice(list(used)))
        shape = {"bbox": [float(v) for v in (x, y, max(w, 1), max(h, 1))], "segmentation": encode(mask)}
        rows.append(result(entry["image_id"], category, shape, float(rng.random())))
    np.testing.assert_allclose(ours(truth, rows, kind), lvis_stats(truth, rows, kind, tmp_path, monkeypatch), atol=1e-9)


def test_a_file_that_is_not_federated_is_told():
    """Without the lists of absent names every false positive of a name that is not in the image is dropped."""
    truth, rows = random_world(0)
    with pytest.warns(UserWarning, match="not federated"):
        results = feed(LvisEvaluator(ground_truth=truth, kinds=("bbox",)), rows)
    assert results["issues/not federated"] == 1
    truth, rows = random_world(0, lvis=True)
    assert "issues/not federated" not in feed(LvisEvaluator(ground_truth=truth, kinds=("bbox",)), rows)
