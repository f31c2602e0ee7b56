"""Real annotation files, read here and by the evaluators: two readers, one answer. And the examples of the docs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from coco_files import spec_of
from pycocotools import mask as rle

from partglee.config import get_cfg
from partglee.data import catalog
from partglee.data.annotations.coco_json import CocoRecords, read_coco
from partglee.data.annotations.columns import read_columns
from partglee.data.catalog import register_custom
from partglee.data.segmentation import decode
from partglee.evaluation.ground_truth import GroundTruth

FILES = {
    "COCO": "data/coco128_coco/annotations/instances_train2017.json",
    "LVIS": "data/golden_evaluators/lvis/data/lvis_val_100.json",
    "Car-Parts": "data/car_parts/trainingset/annotations.json",
}


@pytest.mark.parametrize("name", FILES)
def test_both_readers_agree(shared: Path, name: str) -> None:
    path = shared / FILES[name]
    records = CocoRecords(read_columns(path), images=path.parent)
    truth = GroundTruth.load(path)
    row_of = truth.image_index
    names = records.vocabulary.object_names
    seen = 0
    for record in list(records)[:60]:
        image = row_of[record.image_id]
        rows = np.flatnonzero((truth.image == image) & ~truth.categories.is_part[truth.category])
        assert [names[o.label] for o in record.objects] == [truth.categories.names[truth.category[row]] for row in rows]
        assert [o.crowd for o in record.objects] == truth.crowd[rows].tolist()
        for instance, row in zip(record.objects, rows, strict=True):
            x, y, w, h = truth.boxes[row].tolist()
            x1, y1 = min(x + w, record.width), min(y + h, record.height)  # a box over the edge is cut off
            assert instance.box == pytest.approx((max(x, 0), max(y, 0), x1, y1))
            if instance.segmentation is not None and seen < 120:
                seen += 1
                mask = decode(instance.segmentation, record.height, record.width)
                assert (mask == rle.decode(truth.mask(row)).astype(bool)).all()
        negative = {truth.categories.names[column] for column in truth.negative[image]}
        assert {names[label] for label in record.negative_objects or ()} == negative
        inexhaustive = {truth.categories.names[column] for column in truth.not_exhaustive[image]}
        assert {names[label] for label in record.not_exhaustive_objects} == inexhaustive
    assert (records[0].negative_objects is not None) == (name == "LVIS") and seen == 120


def block(root: Path, language: str) -> str:
    found = re.search(
        rf"```{language}\n(.*?)```", (root / "docs" / "datasets.md").read_text(encoding="utf-8"), re.DOTALL
    )
    assert found is not None
    return found[1]


def test_the_annotation_file_of_the_docs(root: Path, tmp_path: Path) -> None:
    (tmp_path / "annotations.json").write_text(block(root, "json"))
    records = read_coco(spec_of(tmp_path))
    assert records.vocabulary.to_dict() == {"car": ["left mirror", "wheel"]} and records.issues == {}
    assert records.vocabulary.part_prompts == ("left mirror of a car", "car wheel")
    assert [(part.label, part.parent) for part in records[0].parts] == [(1, 0)]
    assert json.loads(block(root, "json"))["images"][0]["height"] == records[0].height


def test_the_configuration_of_the_docs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog.list_datasets()
    monkeypatch.setattr(catalog, "_DATASETS", dict(catalog._DATASETS))
    cfg = get_cfg()
    cfg.DATASETS.CUSTOM = yaml.safe_load(block(root, "yaml"))["DATASETS"]["CUSTOM"]
    (spec,) = register_custom(cfg)
    assert (spec.name, spec.select, spec.part_background) == ("my_parts_train", (0.0, 0.9), "inside")


def test_the_data_set_of_the_docs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "_DATASETS", dict(catalog._DATASETS))
    exec(block(root, "python"), {})
    specs = [catalog.get_dataset(f"street_{split}") for split in ("train", "val")]
    assert [(spec.annotations, spec.counts.images) for spec in specs] == [
        ("street/train.json", 5000), ("street/val.json", 500),
    ]  # fmt: skip
