"""AP where only some names were looked for in an image: worked by hand, and against plain loops."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_worlds import dataset, feed, image, random_world, rect, result

from partglee.cli import main
from partglee.data import DatasetSpec
from partglee.data.annotations.coco_json import read_coco
from partglee.data.prepare.open_images import main as openimages_main
from partglee.evaluation import CocoEvaluator, FederatedEvaluator, HierarchicalEvaluator, dataset_evaluator
from partglee.evaluation.average_precision import RECALL_POINTS
from partglee.evaluation.matching import IOU_THRESHOLDS
from partglee.testing.miniatures import MINIATURES

CATEGORIES = [{"id": 1, "name": "cat", "level": "object"}, {"id": 2, "name": "dog", "level": "object"}]
A, B, FREE = rect(0, 2, 0, 2), rect(2, 4, 2, 4), rect(0, 2, 2, 4)


def small() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Four images: a cat, no dog; a group of cats; nothing verified; a dog."""
    images = [
        image(1, neg_category_ids=[2], not_exhaustive_category_ids=[]),
        image(2, neg_category_ids=[], not_exhaustive_category_ids=[1]),
        image(3, neg_category_ids=[], not_exhaustive_category_ids=[]),
        image(4, neg_category_ids=[], not_exhaustive_category_ids=[]),
    ]
    truth = dataset(images, [(1, 1, A), (2, 1, A, {"iscrowd": 1}), (4, 2, B)], CATEGORIES)
    rows = [
        result(1, 1, A, 0.9),  # the cat
        result(1, 2, FREE, 0.8),  # a dog where there is none
        result(2, 1, rect(0, 1, 0, 2), 0.95),  # in the group
        result(2, 1, FREE, 0.97),  # beside it: perhaps a cat
        result(3, 1, A, 0.99),  # nobody looked for cats
        result(4, 2, B, 0.7),  # the dog
        result(4, 1, A, 0.98),  # nobody looked for cats
    ]
    return truth, rows


@pytest.mark.parametrize("kind", ["box", "mask"])
def test_worked_by_hand(kind: str) -> None:
    """Cats: the one true positive alone, AP 1. Dogs: a false, then a true positive, AP 1/2. Plain AP of cats: 1/4."""
    truth, rows = small()
    results = feed(FederatedEvaluator(ground_truth=truth), rows)
    for metric in ("AP", "AP50", "AP75"):
        assert results[f"object/{kind}/{metric}"] == pytest.approx(75)
    plain = feed(CocoEvaluator(ground_truth=truth), rows)[f"{ {'box': 'bbox', 'mask': 'segm'}[kind] }/AP"]
    assert plain == pytest.approx(100 * (1 / 4 + 1 / 2) / 2)


def slow_ap(truth: dict[str, Any], rows: list[dict[str, Any]]) -> tuple[float, float]:
    """AP and AP50 of boxes, as the definition reads."""
    images = {entry["id"]: entry for entry in truth["images"]}
    values = []
    for category in truth["categories"]:
        own = [a for a in truth["annotations"] if a["category_id"] == category["id"]]
        positives = sum(not a["iscrowd"] for a in own)
        if not positives:
            continue
        for threshold in IOU_THRESHOLDS:
            judged: list[tuple[float, bool]] = []
            for key, entry in images.items():
                here = [a for a in own if a["image_id"] == key]
                if not here and category["id"] not in entry["neg_category_ids"]:
                    continue
                found = [r for r in rows if r["image_id"] == key and r["category_id"] == category["id"]]
                taken: set[int] = set()
                for row in sorted(found, key=lambda r: -r["score"])[:100]:
                    single = [a for a in here if not a["iscrowd"] and a["id"] not in taken]
                    best = max(single, key=lambda a: (overlap(row, a), a["id"]), default=None)
                    if best is not None and overlap(row, best) >= threshold:
                        taken.add(best["id"])
                        judged.append((row["score"], True))
                    elif any(overlap(row, a, crowd=True) >= threshold for a in here if a["iscrowd"]):
                        continue
                    elif category["id"] not in entry["not_exhaustive_category_ids"]:
                        judged.append((row["score"], False))
            judged.sort(key=lambda pair: -pair[0])
            hits = np.cumsum([hit for _, hit in judged])
            precision, recall = hits / np.arange(1, len(hits) + 1), hits / positives
            area = [max(precision[recall >= point], default=0.0) for point in RECALL_POINTS]
            values.append((threshold, float(np.mean(area))))
    return float(np.mean([v for _, v in values])), float(np.mean([v for t, v in values if t == 0.5]))


def overlap(row: dict[str, Any], annotation: dict[str, Any], *, crowd: bool = False) -> float:
    (x, y, w, h), (u, v, s, t) = row["bbox"], annotation["bbox"]
    inter = max(0.0, min(x + w, u + s) - max(x, u)) * max(0.0, min(y + h, v + t) - max(y, v))
    return inter / (w * h if crowd else w * h + s * t - inter)


@pytest.mark.parametrize("seed", range(4))
def test_equals_plain_loops_on_random_worlds(seed: int) -> None:
    truth, rows = random_world(seed, lvis=True)
    rng = np.random.default_rng(seed)
    for row, score in zip(rows, rng.permutation(len(rows)), strict=True):
        row["score"] = float(score + 1) / (len(rows) + 1)  # no ties: their order is not part of the definition
    sets = {entry["id"]: entry["not_exhaustive_category_ids"] for entry in truth["images"]}
    for entry in truth["annotations"]:  # groups, as the prepare script writes them
        entry["iscrowd"] = int(rng.random() < 0.2)
        if entry["iscrowd"]:
            sets[entry["image_id"]].append(entry["category_id"])
    results = feed(FederatedEvaluator(ground_truth=truth, kinds=("bbox",)), rows)
    expected = slow_ap(truth, rows)
    assert (results["object/box/AP"], results["object/box/AP50"]) == pytest.approx([100 * v for v in expected])
    assert results["object/box/AP"] > 1.02 * feed(CocoEvaluator(ground_truth=truth, kinds=("bbox",)), rows)["bbox/AP"]


def test_links_count_only_where_parts_were_looked_for() -> None:
    """A head in an image where nobody looked for heads is no false positive, of hierarchical AP neither."""
    names = [{"id": 1, "name": "dog", "level": "object"}, {"id": 2, "name": "dog:head", "level": "part"}]
    images = [image(key, neg_category_ids=[], not_exhaustive_category_ids=[]) for key in (1, 2)]
    truth = dataset(images, [(1, 1, B), (1, 2, B, {"parent_id": 1}), (2, 1, B)], names)
    rows = [
        result(1, 1, B, 0.9, id=1), result(1, 2, B, 0.5, id=2, parent_id=1),
        result(2, 1, B, 0.9, id=1), result(2, 2, B, 0.6, id=2, parent_id=1),
    ]  # fmt: skip
    results = feed(FederatedEvaluator(ground_truth=truth), rows)
    assert results["part/box/AP"] == results["hierarchy/mask/hAP"] == pytest.approx(100)
    alone = feed(HierarchicalEvaluator(ground_truth=truth, federated=True), rows)
    assert alone["segm/hAP"] == pytest.approx(100)
    assert feed(HierarchicalEvaluator(ground_truth=truth), rows)["segm/hAP"] == pytest.approx(50)


def test_a_federated_set_without_an_evaluator_is_scored_so(tmp_path: Path) -> None:
    truth, rows = small()
    file = tmp_path / "federated.json"
    file.write_text(json.dumps(truth))
    spec = DatasetSpec(name="federated", annotations=str(file), images=str(tmp_path), reader=read_coco)
    records = spec.read()
    evaluator = dataset_evaluator(spec, records)
    assert type(evaluator) is FederatedEvaluator
    assert feed(evaluator, rows)["object/box/AP"] == pytest.approx(75)
    assert type(dataset_evaluator(spec, records, key="joint")) is not FederatedEvaluator  # where somebody asks for it
    for entry in truth["images"]:
        del entry["neg_category_ids"]
    file.write_text(json.dumps(truth))
    with pytest.raises(ValueError, match=r"'federated' is not federated.*'joint' or 'coco'"):
        dataset_evaluator(spec, spec.read(), key="federated")


def test_open_images_from_its_own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Annotations as predictions score 100, also with names added where nobody looked for them."""
    monkeypatch.setenv("PARTGLEE_DATASETS", str(tmp_path))
    MINIATURES["openimages"](tmp_path, num_images=4, seed=0)
    assert openimages_main([]) == 0
    truth = json.loads((tmp_path / "openimages/annotations/openimage_joint_val.json").read_text())
    single = [entry for entry in truth["annotations"] if not entry["iscrowd"]]
    assert 0 < len(single) < len(truth["annotations"])
    rows = [{**entry, "score": 0.5} for entry in single]
    for entry in truth["images"]:
        known = {a["category_id"] for a in truth["annotations"] if a["image_id"] == entry["id"]}
        unknown = {c["id"] for c in truth["categories"]} - known - set(entry["neg_category_ids"])
        rows += [{"image_id": entry["id"], "category_id": c, "score": 0.9, "bbox": [1, 1, 9, 9]} for c in unknown]
    (tmp_path / "found.json").write_text(json.dumps(rows))

    def score(*more: str) -> dict[str, float]:
        command = ["eval", "--predictions", str(tmp_path / "found.json"), "--dataset", "openimage_joint_val"]
        assert main([*command, "--json", str(tmp_path / "numbers.json"), *more]) == 0
        found: dict[str, float] = json.loads((tmp_path / "numbers.json").read_text())["results"]
        return found

    results = score()
    for key in ("object/box/AP", "part/box/AP", "hierarchy/box/hAP", "hierarchy/box/parent_accuracy"):
        assert results[key] == pytest.approx(100), key
    assert score("--evaluator", "joint")["object/box/AP"] < 90
    assert score("--evaluator", "hierarchical")["bbox/hAP"] == pytest.approx(100)
