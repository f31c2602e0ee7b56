"""Attempts on annotation files and predictions files, with what must hold of each answer."""

from __future__ import annotations

import contextlib
import io
import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from partglee.cli import main
from partglee.data import DatasetSpec
from partglee.data.annotations.coco_json import CocoRecords, read_coco
from partglee.evaluation import dataset_evaluator
from partglee.evaluation.ground_truth import GroundTruth
from partglee.evaluation.prediction_files import score_file
from partglee.visualization.annotations import draw_records

HEIGHT, WIDTH = 64, 96


def rectangle(x: int, y: int, w: int, h: int) -> list[list[float]]:
    return [[float(v) for v in (x, y, x + w, y, x + w, y + h, x, y + h)]]


def runs(x: int, y: int, w: int, h: int) -> dict[str, Any]:
    """Uncompressed run lengths of a rectangle, columns first."""
    counts = [x * HEIGHT + y, h] + [HEIGHT - h, h] * (w - 1)
    return {"size": [HEIGHT, WIDTH], "counts": [*counts, HEIGHT * WIDTH - sum(counts)]}


def compressed(x: int, y: int, w: int, h: int) -> dict[str, Any]:
    encoded = rle.frPyObjects(runs(x, y, w, h), HEIGHT, WIDTH)
    return {"size": [HEIGHT, WIDTH], "counts": encoded["counts"].decode()}


COMPRESSED = compressed(10, 5, 20, 20)


def annotation(key: int, image: int, category: int, box: tuple[int, int, int, int], mask: Any, **more: Any) -> Any:
    entry = {"id": key, "image_id": image, "category_id": category, "bbox": list(box), "iscrowd": 0}
    return {**entry, "area": box[2] * box[3], "segmentation": mask, **more}


def _plain(**image: Any) -> dict[str, Any]:
    """Objects alone."""
    a, b, c, d = (5, 5, 30, 20), (50, 10, 30, 40), (2, 30, 20, 20), (60, 40, 30, 20)
    return {
        "images": [{"id": key, "file_name": f"{key}.png", "height": HEIGHT, "width": WIDTH, **image} for key in (1, 2)],
        "categories": [{"id": 1, "name": "car"}, {"id": 3, "name": "dog"}],
        "annotations": [
            annotation(1, 1, 1, a, rectangle(*a)), annotation(2, 1, 3, b, runs(*b)),
            annotation(3, 2, 3, c, runs(*c), iscrowd=1), annotation(4, 2, 1, d, rectangle(*d)),
        ],
    }  # fmt: skip


def _levels() -> dict[str, Any]:
    """Objects, parts, links, an expression, a compressed mask, negatives."""
    content = _plain(neg_category_ids=[3], not_exhaustive_category_ids=[1])
    content["categories"] = [
        {"id": 1, "name": "car", "level": "object"}, {"id": 3, "name": "dog", "level": "object"},
        {"id": 5, "name": "car:wheel", "level": "part"},
    ]  # fmt: skip
    wheel = (10, 5, 20, 20)
    content["annotations"] += [
        annotation(7, 1, 5, wheel, COMPRESSED, parent_id=1), annotation(8, 2, 5, (70, 45, 8, 8), [], parent_id=4)
    ]  # fmt: skip
    content["images"][0]["expressions"] = [
        {"text": "the red car", "objects": [1]}, {"text": "nothing", "objects": []},
        {"text": "its wheel", "parts": [7]},
    ]  # fmt: skip
    return content


def _lvis() -> dict[str, Any]:
    content = _plain(neg_category_ids=[], not_exhaustive_category_ids=[])
    for entry in content["categories"]:
        entry.update(frequency="f", synset="a.n.01")
    for entry in content["images"]:
        entry["coco_url"] = f"http://x/val/{entry['file_name']}"
    return content


FILES: list[dict[str, Any]] = [_plain(), _levels(), _lvis()]
PICTURES = ("1.png", "2.png")


def read(content: bytes, folder: Path) -> tuple[DatasetSpec, CocoRecords]:
    """The file beside two pictures, read as training reads it."""
    file = folder / "annotations.json"
    file.write_bytes(content)
    for name in PICTURES:
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / name)
    spec = DatasetSpec(name="fuzz", annotations=str(file), images=str(folder), reader=read_coco)
    return spec, read_coco(spec)


# -- annotations


def annotations(content: bytes, folder: Path) -> None:
    """Read, with every mask as the file says it, and perfect predictions scored by the two evaluators of all files."""
    spec, records = read(content, folder)
    said = _as_said(folder / "annotations.json")
    for index in range(len(records)):
        record = records[index]
        for instance in (*record.objects, *record.parts):
            entry = said.get(instance.annotation_id)
            if entry is None or instance.segmentation is None:
                continue
            _check_mask(instance.segmentation, entry.get("segmentation"))
            box = entry.get("bbox")
            if isinstance(box, list) and len(box) == 4 and all(_usable(value) for value in box):
                x, y, w, h = (float(v) for v in box)
                close = np.allclose(instance.box, (x, y, x + w, y + h), atol=0.01, rtol=1e-5)
                assert close or w <= 0 or h <= 0, f"box {instance.box} of {box}"
    for key in ("joint", "coco"):
        _perfect(spec, records, key)


def _usable(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e9 and math.isfinite(value)


def _as_said(file: Path) -> dict[int, dict[str, Any]]:
    """Annotation id -> its entry, of those whose id is there once."""
    entries = json.loads(file.read_bytes().decode("utf-8-sig"))["annotations"]
    ids = [entry.get("id") for entry in entries if isinstance(entry, dict)]
    return {
        int(entry["id"]): entry
        for entry in entries
        if isinstance(entry.get("id"), (int, float)) and ids.count(entry["id"]) == 1
    }


def _check_mask(found: Any, said: Any) -> None:
    if isinstance(said, dict) and isinstance(found, dict):
        assert slow_area(found) == slow_area(said), f"mask of {slow_area(found)} pixels, the file says {said}"
    elif isinstance(said, list):
        polygons = {tuple(np.round(polygon, 2)) for polygon in found}
        assert polygons <= {tuple(np.round(np.array(p, float), 2)) for p in said}, f"polygons {found} of {said}"


def slow_area(mask: dict[str, Any]) -> int:
    """Pixels of run lengths, decoded number by number as the format's description says."""
    counts = mask["counts"]
    if isinstance(counts, list):
        return sum(counts[1::2])
    numbers: list[int] = []
    text = counts.encode() if isinstance(counts, str) else counts
    value, shift = 0, 0
    for code in text:
        value |= ((code - 48) & 31) << shift
        shift += 5
        if (code - 48) & 32:
            continue
        if (code - 48) & 16:
            value -= 1 << shift
        numbers.append(value + (numbers[-2] if len(numbers) > 2 else 0))
        value, shift = 0, 0
    height, width = mask["size"]
    pixels: NDArray[np.bool_] = np.zeros(height * width, bool)
    at = 0
    for place, number in enumerate(numbers):
        pixels[at : at + number] = place % 2
        at += number
    assert at == len(pixels), f"{mask} covers {at} pixels"
    return int(pixels.sum())


def _perfect(spec: DatasetSpec, records: CocoRecords, key: str) -> None:
    """What the annotations say is found: every AP that is defined is 100."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = dataset_evaluator(spec, records, key=key, by_label=False)
        truth = evaluator.ground_truth
        rows = perfect(truth)
        for image in truth.image_ids.tolist():
            evaluator.process(image, [row for row in rows if row["image_id"] == image])
        results = evaluator.evaluate()
    empty = "issues/annotation whose mask covers no pixel" in results  # nothing can match it, as in pycocotools
    for name, value in results.items():
        if "AP" in name and not math.isnan(value) and value >= 0 and not (empty and ("mask" in name or "segm" in name)):
            assert value > 99.99, f"{key}: {name} is {value} for perfect predictions"


def perfect(truth: GroundTruth) -> list[dict[str, Any]]:
    """The annotations of a file as predictions; no crowds."""
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
        elif all(truth.image_sizes[truth.image[row]]):  # its box stands for it
            entry["segmentation"] = box_mask(truth.boxes[row].tolist(), *truth.image_sizes[truth.image[row]].tolist())
        rows.append(entry)
    return rows


def box_mask(box: list[float], height: int, width: int) -> Any:
    """Run lengths of a box."""
    x, y, w, h = box
    return rle.merge(rle.frPyObjects([[x, y, x + w, y, x + w, y + h, x, y + h]], height, width))


def commands(content: bytes, folder: Path) -> None:
    """`data check` with pictures, `eval` by every evaluator that takes such a file: a status and one line."""
    for name in PICTURES:
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / name)
    (folder / "annotations.json").write_bytes(content)
    (folder / "found.json").write_text("[]")
    refused = [_command("data", "check", folder / "annotations.json", "--images", folder, "--draw", folder / "drawn")]
    for key in ("joint", "coco", "lvis", "hierarchical"):
        files = ("--predictions", folder / "found.json", "--annotations", folder / "annotations.json")
        refused.append(_command("eval", *files, "--evaluator", key))
    if all(refused):
        raise ValueError(refused[0])


def _command(*arguments: Any) -> str:
    """ "" or what was said."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), warnings.catch_warnings():
        status = main(list(map(str, arguments)))
    lines = said.getvalue().strip().splitlines()
    assert status in (0, 1, 2), status
    if status != 2:
        return ""
    assert lines and lines[-1].startswith("partglee: "), f"status 2 without a line: {lines[-3:]}"
    assert len(lines[-1]) < 2000, f"a line of {len(lines[-1])} characters"
    return lines[-1]


def pictures(content: bytes, folder: Path) -> None:
    """What `data show` and the preflight do with what was read."""
    spec, records = read(content, folder)
    for index in range(len(records)):
        records.labels(index)
    records.counts(), records.learnable(), spec.counts.beside(records.counts())
    draw_records(records, folder / "drawn", number=2)


# -- predictions

FOUND = [
    {"image_id": entry["image_id"], "category_id": entry["category_id"], "bbox": entry["bbox"], "score": 0.5 + k / 20,
     "segmentation": COMPRESSED if k == 1 else runs(*entry["bbox"]), "id": k + 1}
    for k, entry in enumerate(_levels()["annotations"])
]  # fmt: skip
FOUND[4]["parent_id"] = 1
LINES = [
    {"file_name": f"{key}.png", "image_id": key, "height": HEIGHT, "width": WIDTH, "results": [
        {"id": k, "category_id": k % 2, "level": "object", "name": name, "bbox": [5, 5, 30, 20], "score": 0.8,
         "parent_id": None, "segmentation": runs(5, 5, 30, 20)}
        for k, name in enumerate(["car", "dog"])
    ] + [{"id": 5, "category_id": 0, "level": "part", "name": "wheel", "object": "car", "bbox": [10, 5, 20, 20],
          "score": 0.7, "parent_id": 0, "segmentation": COMPRESSED}]}
    for key in (1, 2)
]  # fmt: skip


def predictions(given: tuple[str, bytes], folder: Path) -> None:
    """Scored by three evaluators, strict and not; what the strict one takes has pycocotools' numbers."""
    suffix, content = given
    spec, records = read(json.dumps(FILES[1]).encode(), folder)
    file = folder / f"found{suffix}"
    file.write_bytes(content)
    refused = []
    for key in ("joint", "coco", "hierarchical"):
        for strict in (True, False):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    results = score_file(file, dataset_evaluator(spec, records, key=key, by_label=False, strict=strict))
            except ValueError as error:
                refused.append(error)
                continue
            for name, value in results.items():
                rate = not any(word in name for word in ("num_", "issues/"))
                assert not rate or math.isnan(value) or -1 <= value <= 100.0001, f"{key}: {name} is {value}"
            if key == "coco" and strict and suffix == ".json":
                _as_pycocotools(results, json.loads(content.decode("utf-8-sig")))
    if len(refused) == 6:
        raise refused[0]


def _as_pycocotools(results: dict[str, float], rows: list[dict[str, Any]]) -> None:
    """Boxes; the tools crash on damaged masks, and take the image's id for a category's."""
    if not rows:
        return
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = json.loads(json.dumps(FILES[1]))
        truth.createIndex()
        kept = [{key: row[key] for key in ("image_id", "category_id", "bbox", "score") if key in row} for row in rows]
        if not all("bbox" in row for row in kept):
            return
        scorer = COCOeval(truth, truth.loadRes(kept), "bbox")
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    expected = 100 * scorer.stats[0]
    assert abs(results["bbox/AP"] - expected) < 1e-6, f"AP {results['bbox/AP']}, pycocotools {expected}"
