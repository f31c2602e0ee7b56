"""`joint` and `hierarchical` score the same links, whatever boxes and parts of parts a file has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_worlds import dataset, encode, feed, image

from partglee.data import DatasetSpec
from partglee.data.annotations.coco_json import read_coco
from partglee.evaluation import HierarchicalEvaluator, dataset_evaluator

SIZE = (60, 80)
CATEGORIES = [
    {"id": 3, "name": "dog"}, {"id": 5, "name": "cat"}, {"id": 7, "name": "dog:head"}, {"id": 8, "name": "dog:eye"},
    {"id": 9, "name": "cat:head"},
]  # fmt: skip
METRICS = ("hAP", "hAP50", "hAP75", "AP", "AP50", "parent_accuracy", "num_matched_parts", "num_parts_without_parent")


def shape(x: float, y: float, w: float, h: float) -> dict[str, Any]:
    """A box that may leave the image, with the mask of what lies inside."""
    mask = np.zeros(SIZE, bool)
    mask[max(0, int(y)) : max(0, int(y + h)), max(0, int(x)) : max(0, int(x + w))] = True
    return {"bbox": [x, y, w, h], "area": float(mask.sum()), "segmentation": encode(mask)}


def moved(rng: np.random.Generator, entry: dict[str, Any]) -> dict[str, Any]:
    """A detection near an annotation, inside the image as detections are."""
    x, y, w, h = entry["bbox"]
    x0, y0 = max(0.0, x) + rng.integers(0, 3), max(0.0, y) + rng.integers(0, 3)
    x1, y1 = min(SIZE[1], x + w) - rng.integers(0, 3), min(SIZE[0], y + h) - rng.integers(0, 3)
    return shape(float(x0), float(y0), float(max(1, x1 - x0)), float(max(1, y1 - y0)))


def world(seed: int, *, clipped: bool) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Objects with heads, dogs' heads with eyes (parts of parts, also of a head that is not there), detections near."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[Any, ...]] = []
    results: list[dict[str, Any]] = []
    eyes = 0

    def add(key: int, category: int, place: dict[str, Any], parent: int | None) -> int:
        rows.append((key, category, place, {} if parent is None else {"parent_id": parent}))
        return len(rows)

    for key in range(1, 9):
        low = -14 if clipped else 0
        above: dict[int, int] = {}  # annotation id -> id of its object
        for _ in range(3):
            category = int(rng.choice([3, 5]))
            x, y = (float(v) for v in rng.integers(low, 40, 2))
            w, h = float(rng.integers(20, 60)), float(rng.integers(20, 45))
            if not clipped:
                w, h = min(w, SIZE[1] - x), min(h, SIZE[0] - y)
            top = add(key, category, shape(x, y, w, h), None)
            above[top] = top
            x, y, _, _ = rows[-1][2]["bbox"]
            head = add(key, 7 if category == 3 else 9, shape(x, y, 16.0, 16.0), top)
            above[head] = top
            if category == 3:
                eye = add(key, 8, shape(x, y, 10.0, 18.0), head if eyes and rng.random() < 0.8 else 10_000)
                eyes += 1
                above[eye] = top
        ids: dict[int, int] = {}
        for annotation in sorted(above):
            _, category, place, _ = rows[annotation - 1]
            ids[annotation] = len(results) + 1
            parent = ids[above[annotation]] if rng.random() < 0.8 else int(rng.choice(list(ids.values())))
            link = {} if category in (3, 5) else {"parent_id": parent}
            score = float(rng.random())
            found = moved(rng, place)
            fields = {name: found[name] for name in ("bbox", "segmentation")}
            results.append({"image_id": key, "category_id": category, "score": score, "id": ids[annotation], **fields})
            results[-1].update(link)
    if clipped:
        place = shape(-30.0, 5.0, 20.0, 20.0)  # wholly outside
        rows.append((1, 7, {**place, "segmentation": [[-30.0, 5, -10, 5, -10, 25]]}))
    return dataset([image(key, SIZE) for key in range(1, 9)], rows, CATEGORIES), results


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("clipped", [False, True])
def test_equal_on_random_files(seed: int, clipped: bool, tmp_path: Path) -> None:
    truth, rows = world(seed, clipped=clipped)
    file = tmp_path / "truth.json"
    file.write_text(json.dumps(truth))
    spec = DatasetSpec(name="random", annotations=str(file), images=str(tmp_path), reader=read_coco)
    records = spec.read()
    joint = feed(dataset_evaluator(spec, records, key="joint"), rows)
    linked = feed(dataset_evaluator(spec, records, key="hierarchical"), rows)
    alone = feed(HierarchicalEvaluator(ground_truth=file), rows)  # the file as it is: boxes outside of the image too
    for kind, shown in (("bbox", "box"), ("segm", "mask")):
        for metric in METRICS:
            assert joint[f"hierarchy/{shown}/{metric}"] == pytest.approx(linked[f"{kind}/{metric}"], nan_ok=True), (
                metric
            )
            assert linked[f"{kind}/{metric}"] == pytest.approx(alone[f"{kind}/{metric}"]), metric
        assert 5 < linked[f"{kind}/hAP"] < linked[f"{kind}/AP"] < 95
        assert linked[f"{kind}/num_parts_without_parent"] < linked[f"{kind}/num_matched_parts"]
        assert 50 < linked[f"{kind}/parent_accuracy"] < 100
