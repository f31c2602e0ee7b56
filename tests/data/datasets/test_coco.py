"""COCO 2017: a miniature in its own format, and 128 real images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from partglee.data import get_dataset
from partglee.data.segmentation import decode
from partglee.evaluation import EVALUATORS
from partglee.structures import Vocabulary
from partglee.testing.miniatures import MINIATURES


@pytest.mark.parametrize("split", ["train", "val"])
def test_ids_with_gaps_become_80_names_in_order(data_root: Path, split: str) -> None:
    MINIATURES["coco"](data_root, num_images=3, seed=1)
    spec = get_dataset(f"coco_2017_{split}")
    records = spec.read()
    raw = json.loads(spec.annotation_path.read_text())
    names = {entry["id"]: entry["name"] for entry in raw["categories"]}
    assert len(names) == 80 and max(names) == 90 and spec.evaluator in EVALUATORS
    assert records.vocabulary.object_names == Vocabulary.builtin("coco").object_names
    wanted = {entry["id"]: names[entry["category_id"]] for entry in raw["annotations"]}
    found = {o.annotation_id: records.vocabulary.object_names[o.label] for record in records for o in record.objects}
    assert found == wanted and records[2].objects == ()


def test_crowds_are_read_but_never_targets(data_root: Path, first_batch) -> None:
    MINIATURES["coco"](data_root, num_images=3, seed=2)
    record = get_dataset("coco_2017_train").read()[0]
    crowd = [instance for instance in record.objects if instance.crowd]
    assert len(crowd) == 1
    strip = np.zeros((record.height, record.width), bool)
    strip[:6] = True
    assert (decode(crowd[0].segmentation, record.height, record.width) == strip).all()
    batch = first_batch("coco_2017_train", 3)
    rows = {str(r.file): r for r in get_dataset("coco_2017_train").read()}
    for file, target in zip(batch.files, batch.targets, strict=True):
        assert len(target.objects) == sum(not instance.crowd for instance in rows[file].objects)
    assert batch.supervision.parts.background == (False,) * 3 and len(batch.names.object_prompts) == 80


def test_an_image_given_twice_is_refused(data_root: Path) -> None:
    MINIATURES["coco"](data_root, num_images=2, seed=3)
    spec = get_dataset("coco_2017_val")
    raw = json.loads(spec.annotation_path.read_text())
    spec.annotation_path.write_text(json.dumps({**raw, "images": raw["images"] * 2}))
    with pytest.raises(ValueError, match="image id 6001 is given twice"):
        spec.read()


def test_an_annotation_given_twice_is_kept_and_counted(data_root: Path) -> None:
    MINIATURES["coco"](data_root, num_images=2, seed=3)
    spec = get_dataset("coco_2017_val")
    raw = json.loads(spec.annotation_path.read_text())
    raw["annotations"].append(raw["annotations"][0])
    spec.annotation_path.write_text(json.dumps(raw))
    records = spec.read()
    assert sum(len(record.objects) for record in records) == len(raw["annotations"])
    assert [what for what in records.issues if "given twice" in what]  # type: ignore[attr-defined]


def test_real_images(shared: Path, data_root: Path, first_batch) -> None:
    source = shared / "data" / "coco128_coco"
    (data_root / "coco" / "annotations").mkdir(parents=True)
    shutil.copy(source / "annotations" / "instances_train2017.json", data_root / "coco" / "annotations")
    (data_root / "coco" / "train2017").symlink_to(source / "train2017")
    records = get_dataset("coco_2017_train").read()
    assert len(records) == 128 and len(records.vocabulary.object_names) == 80
    batch = first_batch("coco_2017_train")
    assert batch.unreadable == () and any(len(target.objects) for target in batch.targets)
