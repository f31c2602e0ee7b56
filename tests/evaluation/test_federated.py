"""Federated annotations are not scored by plain AP unless somebody asks for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from partglee.data import DatasetSpec
from partglee.data.coco_json import read_coco
from partglee.evaluation import dataset_evaluator


def test_a_federated_set_without_an_evaluator_is_refused(tmp_path: Path) -> None:
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 8, "width": 8, "neg_category_ids": [2]}],
        "categories": [{"id": 1, "name": "cat", "level": "object"}, {"id": 2, "name": "dog", "level": "object"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 4, 4], "area": 16, "iscrowd": 0}],
    }
    file = tmp_path / "federated.json"
    file.write_text(json.dumps(content))
    spec = DatasetSpec(name="federated", annotations=str(file), images=str(tmp_path), reader=read_coco)
    records = spec.read()
    with pytest.raises(ValueError, match=r"'federated' is federated.*'lvis'"):
        dataset_evaluator(spec, records)
    assert dataset_evaluator(spec, records, key="joint").kinds == ("bbox",)
