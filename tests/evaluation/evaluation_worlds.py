"""Small annotated worlds and slow oracles for the evaluator tests."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

SHARED = Path(__file__).resolve().parents[3] / "shared"
GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def golden(name: str) -> Any:
    """A golden JSON file: the copy in tests/golden."""
    return json.loads((GOLDEN / name).read_text())


def shared(path: str) -> Path:
    """A file of the held data; skips the test by name when it is not there."""
    full = SHARED / path
    if not full.exists():
        pytest.skip(f"../shared/{path} is not here")
    return full


def encode(mask: np.ndarray) -> dict[str, Any]:
    entry = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(side) for side in entry["size"]], "counts": entry["counts"].decode()}


def rect(top: int, bottom: int, left: int, right: int, size: tuple[int, int] = (4, 4)) -> dict[str, Any]:
    """A filled rectangle as box, mask and area."""
    mask = np.zeros(size, bool)
    mask[top:bottom, left:right] = True
    box = [float(left), float(top), float(right - left), float(bottom - top)]
    return {"bbox": box, "area": float(mask.sum()), "segmentation": encode(mask)}


def image(key: int, size: tuple[int, int] = (4, 4), **extra: Any) -> dict[str, Any]:
    return {"id": key, "height": size[0], "width": size[1], "file_name": f"{key}.jpg", **extra}


def dataset(images: list, annotations: list[tuple], categories: list) -> dict[str, Any]:
    """annotations: (image id, category id, rect, extra fields)."""
    rows = [
        {"id": i + 1, "image_id": a[0], "category_id": a[1], "iscrowd": 0, **a[2], **(a[3] if len(a) > 3 else {})}
        for i, a in enumerate(annotations)
    ]
    return {"images": images, "annotations": rows, "categories": categories}


def result(image_id: int, category_id: int, shape: dict[str, Any], score: float, **extra: Any) -> dict[str, Any]:
    fields = {key: shape[key] for key in ("bbox", "segmentation")}
    return {"image_id": image_id, "category_id": category_id, "score": score, **fields, **extra}


def feed(evaluator: Any, rows: list[dict[str, Any]], image_ids: list[int] | None = None) -> dict[str, float]:
    """Process result rows image by image and evaluate."""
    ids = evaluator.ground_truth.image_ids.tolist() if image_ids is None else image_ids
    for key in ids:
        evaluator.process(key, [entry for entry in rows if entry["image_id"] == key])
    return evaluator.evaluate()


def perfect_rows(truth: Any) -> list[dict[str, Any]]:
    """The annotations of a `GroundTruth` as results: boxes, masks where they have one, parents. No crowds."""
    rows = []
    for row in np.flatnonzero(~truth.crowd).tolist():
        entry = {
            "id": row + 1, "image_id": int(truth.image_ids[truth.image[row]]), "score": 0.9,
            "category_id": int(truth.categories.ids[truth.category[row]]), "bbox": truth.boxes[row].tolist(),
        }  # fmt: skip
        if truth.parent[row] >= 0:
            entry["parent_id"] = int(truth.parent[row]) + 1
        if truth.has_mask[row]:
            entry["segmentation"] = truth.mask(row)
        rows.append(entry)
    return rows


def random_world(seed: int, *, images: int = 12, categories: int = 5, lvis: bool = False) -> tuple[dict, list]:
    """Annotations and results with crowds, ties in score, boxes of every size and images without either."""
    rng = np.random.default_rng(seed)
    size = (160, 200)

    def shape() -> dict[str, Any]:
        height, width = rng.integers(2, 140), rng.integers(2, 180)
        top, left = rng.integers(0, size[0] - height), rng.integers(0, size[1] - width)
        return rect(top, top + height, left, left + width, size)

    def near(entry: dict[str, Any]) -> dict[str, Any]:
        left, top, width, height = (int(v) for v in entry["bbox"])
        d = rng.integers(-6, 7, 4)
        top, left = max(0, top + d[0]), max(0, left + d[1])
        return rect(top, min(size[0], max(top + 1, top + height + d[2])), left,
                    min(size[1], max(left + 1, left + width + d[3])), size)  # fmt: skip

    anns, results, infos = [], [], []
    for key in range(1, images + 1):
        present = rng.choice(categories, rng.integers(0, categories), replace=False) + 1
        absent = [c for c in range(1, categories + 1) if c not in present and rng.random() < 0.5]
        extra = {
            "neg_category_ids": absent,
            "not_exhaustive_category_ids": [int(c) for c in present if rng.random() < 0.3],
        }
        infos.append(image(key, size, **(extra if lvis else {})))
        for c in present:
            for _ in range(rng.integers(1, 5)):
                crowd = {} if lvis else {"iscrowd": int(rng.random() < 0.15)}
                anns.append((key, int(c), shape(), crowd))
                for _ in range(rng.integers(0, 3)):
                    results.append(result(key, int(c), near(anns[-1][2]), float(rng.integers(1, 20) / 20)))
        for _ in range(rng.integers(0, 8)):
            results.append(result(key, int(rng.integers(1, categories + 1)), shape(), float(rng.integers(1, 20) / 20)))
    frequency = "rcf"
    cats = [{"id": c, "name": f"class {c}", "frequency": frequency[c % 3]} for c in range(1, categories + 2)]
    return dataset(infos, anns, cats), results


def pycocotools_stats(annotations: dict, results: list[dict], kind: str) -> np.ndarray:
    """The twelve numbers of pycocotools."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = json.loads(json.dumps(annotations))
        truth.createIndex()
        keep = {"bbox": "segmentation", "segm": "bbox"}[kind]  # a bbox in mask results changes the areas
        found = truth.loadRes([{k: v for k, v in row.items() if k != keep} for row in results])
        scorer = COCOeval(truth, found, kind)
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    return np.asarray(scorer.stats)
