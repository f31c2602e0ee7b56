"""Masks of answers to expressions in a file of any system: either form of run lengths, or a miss that is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from evaluation_worlds import dataset, image, rect, result

from partglee.data import DatasetSpec, Records
from partglee.data.annotations.coco_json import read_coco
from partglee.evaluation import PredictionError
from partglee.evaluation.expression_files import score_expressions

DOG = rect(0, 4, 0, 4)


def write(folder: Path, mask: Any) -> tuple[Path, Records]:
    names = [{"id": 1, "name": "dog", "level": "object"}]
    content = dataset([image(1, expressions=[["a dog"]])], [(1, 1, DOG)], names)
    (folder / "truth.json").write_text(json.dumps(content))
    spec = DatasetSpec(name="dogs", annotations=str(folder / "truth.json"), images="", reader=read_coco)
    row = {**result(1, 1, DOG, 0.9), "segmentation": mask}
    (folder / "found.jsonl").write_text(json.dumps({"image_id": 1, "object": 0, "sentence": 0, "results": [row]}))
    return folder / "found.jsonl", spec.read()


def test_uncompressed_run_lengths(tmp_path: Path) -> None:
    file, records = write(tmp_path, {"size": [4, 4], "counts": [0, 8, 8]})  # half of the dog
    assert score_expressions(file, records)["mask/mIoU"] == pytest.approx(50)


@pytest.mark.parametrize(
    ("mask", "kind"),
    [
        ({"size": [4, 4], "counts": [0, 8]}, "mask unreadable"),
        ({"size": [4, 4], "counts": [0, "8", 8]}, "mask unreadable"),
        ({"size": [4, 4], "counts": "~"}, "mask unreadable"),
        ({"size": [4, 4], "counts": "é"}, "mask unreadable"),
        ({"size": [4, 4]}, "mask unreadable"),
        ({"counts": "04"}, "mask unreadable"),
        ({"size": 4, "counts": [16]}, "mask unreadable"),
        ([[0, 0, 4, 0, 4, 4]], "mask unreadable"),
        ("04", "mask unreadable"),
        ({"size": [5, 4], "counts": [20]}, "mask of the wrong size"),
    ],
)
def test_what_is_no_mask_is_told(mask: Any, kind: str, tmp_path: Path) -> None:
    file, records = write(tmp_path, mask)
    with pytest.raises(PredictionError, match=f"^{kind}: line 1 of"):
        score_expressions(file, records)
    with pytest.warns(UserWarning, match=f"1 x {kind}"):
        results = score_expressions(file, records, strict=False)
    assert results["mask/mIoU"] == 0 and results["box/P@0.5"] == 100
