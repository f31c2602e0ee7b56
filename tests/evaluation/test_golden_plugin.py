"""Numbers of other people's evaluators (`golden/plugin`: detectron2's and OV-PARTS' own) on the same files: ours."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from partglee.data import get_dataset
from partglee.evaluation import CocoEvaluator, LvisEvaluator, SemanticPartEvaluator, score_file
from partglee.evaluation.part_map_files import part_map_evaluator, score_part_maps
from partglee.testing.miniatures import MINIATURES

MAPS = "voc_obj_part_sem_seg_val_obj_condition"


@pytest.fixture(scope="module")
def golden(shared: Path) -> Path:
    return shared / "golden" / "plugin"


@pytest.fixture(scope="module")
def numbers(golden: Path) -> dict[str, Any]:
    return json.loads((golden / "numbers.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("miniatures")
    for name in ("coco", "lvis", "pascal_part_116"):
        MINIATURES[name](folder, num_images=8, seed=3)
    return folder


def same(found: float, expected: float) -> bool:
    if math.isnan(expected) or expected == -100:
        return math.isnan(found)
    return abs(found - expected) < 1e-6


def test_coco(golden: Path, numbers: dict[str, Any], root: Path) -> None:
    truth = root / "coco" / "annotations" / "instances_val2017.json"
    results = score_file(golden / "coco_2017_val.json", CocoEvaluator(ground_truth=truth, kinds=("bbox", "segm")))
    wanted = {(kind, name): value for kind, table in numbers["coco"].items() for name, value in table.items()}
    compared = {key: value for key, value in wanted.items() if f"{key[0]}/{key[1]}" in results}
    assert len(compared) >= 12
    assert {key for key, value in compared.items() if not same(results[f"{key[0]}/{key[1]}"], value)} == set()


def test_lvis(golden: Path, numbers: dict[str, Any], root: Path) -> None:
    truth = root / "lvis" / "lvis_v1_val.json"
    results = score_file(golden / "lvis_v1_val.json", LvisEvaluator(ground_truth=truth, kinds=("bbox", "segm")))
    wanted = {f"{kind}/{name}": value for kind, table in numbers["lvis"].items() for name, value in table.items()}
    assert len(wanted) == 18
    assert {key for key, value in wanted.items() if not same(results[key], value)} == set()


def frequency_weighted(evaluator: SemanticPartEvaluator) -> float:
    """The mean IoU weighted by annotated pixels, which OV-PARTS reports beside the others."""
    true, annotated, predicted = evaluator.counts()
    union = annotated + predicted - true
    iou = np.divide(true, union, out=np.zeros(len(true)), where=union > 0)
    return 100 * float((iou * annotated).sum() / annotated.sum())


@pytest.mark.parametrize(("key", "options"), [("theirs_48", {}), ("theirs_512", {"resize_truth": 512})])
def test_ov_parts(
    golden: Path,
    numbers: dict[str, Any],
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
    options: dict[str, Any],
) -> None:
    monkeypatch.setenv("PARTGLEE_DATASETS", str(root))
    spec = get_dataset(MAPS)
    records = spec.read()
    evaluator = part_map_evaluator(spec, records, **options)
    results = score_part_maps(golden / "ovparts" / MAPS, records, evaluator)
    wanted = numbers["ov_parts"]["maps"][key]
    ours = {"mIoU": "mIoU", "mIoU-base": "mIoU-base", "mIoU-unbase": "mIoU-novel", "h-IoU": "hIoU"}
    for theirs, name in ours.items():
        assert results[f"A/{name}"] == pytest.approx(wanted[theirs], abs=1e-6), theirs
    assert frequency_weighted(evaluator) == pytest.approx(wanted["fwIoU"], abs=1e-6)
