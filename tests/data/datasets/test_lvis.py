"""LVIS: a miniature in its own format, and the real sample of version 0.5."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from partglee.data import get_dataset
from partglee.data.annotations.categories import image_file_name
from partglee.data.images import read_image
from partglee.evaluation import EVALUATORS
from partglee.evaluation.ground_truth import GroundTruth
from partglee.testing.miniatures import MINIATURES


@pytest.fixture
def lvis(data_root: Path) -> Path:
    MINIATURES["lvis"](data_root, num_images=6, seed=3)
    return data_root


@pytest.mark.parametrize("split", ["train", "val", "minival"])
def test_the_files_of_a_split(lvis: Path, split: str) -> None:
    spec = get_dataset(f"lvis_v1_{split}")
    records = spec.read()
    assert len(records) == (3 if split == "minival" else 6) and spec.evaluator in EVALUATORS
    assert len(records.vocabulary.object_names) == 1203 and not records.vocabulary.part_names
    names = records.vocabulary.object_names
    for record in records:
        assert read_image(record.source).shape == (record.height, record.width, 3)
        present = {instance.label for instance in record.objects}
        assert record.negative_objects and not record.negative_objects & present
        assert record.not_exhaustive_objects <= present
        assert all(
            names[label] in ("person", "car_(automobile)", "dog", "chair", "bottle", "ball") for label in present
        )
    folders = {record.file.parent.name for record in records}
    assert folders == {"train": {"train2017"}, "val": {"train2017", "val2017"}, "minival": {"val2017"}}[split]


def test_frequencies_are_kept(lvis: Path) -> None:
    columns = get_dataset("lvis_v1_val").read().columns  # type: ignore[attr-defined]
    raw = json.loads((lvis / "lvis" / "lvis_v1_val.json").read_text())
    assert [entry["frequency"] for entry in columns.categories] == [entry["frequency"] for entry in raw["categories"]]
    assert set(GroundTruth.load(lvis / "lvis" / "lvis_v1_val.json").categories.frequency) == {"r", "c", "f"}


def test_a_batch_has_sampled_names_and_knows_which_were_looked_for(lvis: Path, first_batch) -> None:
    batch = first_batch("lvis_v1_train", 6)
    records = get_dataset("lvis_v1_train").read()
    assert batch.names is not None and len(batch.names.object_prompts) == 100 and batch.names.part_prompts == ()
    assert batch.supervision.parts.background == (False,) * len(batch.images)  # nothing is known of parts
    negatives = batch.supervision.objects.negatives
    assert negatives is not None and negatives.shape == (6, 100)
    rows = {str(record.file): record for record in records}
    row_of = {name: row for row, name in enumerate(records.vocabulary.object_names)}
    chosen = np.array([row_of[name] for name in batch.names.object_prompts])
    for image, file in enumerate(batch.files):
        record = rows[file]
        present = {instance.label for instance in record.objects}
        assert present <= set(chosen.tolist())
        assert set(chosen[batch.targets[image].objects.labels.numpy()].tolist()) == present
        known = (present | record.negative_objects) - record.not_exhaustive_objects
        assert set(chosen[negatives[image].numpy()].tolist()) == known & set(chosen.tolist())
    assert not negatives.all() and negatives.any()


def test_an_image_that_is_missing_is_named_and_replaced(lvis: Path, first_batch) -> None:
    records = get_dataset("lvis_v1_train").read()
    gone = records[0].file
    gone.unlink()
    batch = first_batch("lvis_v1_train", 6)
    assert [Path(file) for file, _ in batch.unreadable] == [gone] and str(gone) not in batch.files


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        ({"coco_url": "http://x/val2017/7.jpg", "neg_category_ids": []}, "val2017/7.jpg"),
        ({"coco_url": "http://x/val2017/7.jpg", "file_name": "7.jpg", "neg_category_ids": []}, "val2017/7.jpg"),
        ({"coco_url": "http://x/val2017/7.jpg", "file_name": "a/7.jpg", "neg_category_ids": []}, "a/7.jpg"),
        ({"file_name": "7.jpg", "neg_category_ids": []}, "7.jpg"),
        ({"coco_url": "http://x/val2017/7.jpg", "file_name": "7.jpg"}, "7.jpg"),  # COCO: relative to val2017
    ],
)
def test_names_of_images(entry: dict, name: str) -> None:
    assert image_file_name(entry) == name


def test_the_real_sample(shared: Path, data_root: Path) -> None:
    """Version 0.5: 1,230 names and COCO 2014 file names beside the addresses."""
    raw = (shared / "data/golden_evaluators/lvis/data/lvis_val_100.json").read_text()
    (data_root / "lvis").mkdir()
    (data_root / "lvis" / "lvis_v1_val.json").write_text(raw)
    records = get_dataset("lvis_v1_val").read()
    content = json.loads(raw)
    assert len(records) == 100 and len(records.vocabulary.object_names) == 1230
    assert sum(len(record.objects) for record in records) == len(content["annotations"]) == 977
    for record, entry in zip(records, content["images"], strict=True):
        assert record.file == data_root / "coco" / "val2017" / entry["coco_url"].split("/")[-1]
        assert len(record.negative_objects) == len(entry["neg_category_ids"])
        assert len(record.not_exhaustive_objects) == len(entry["not_exhaustive_category_ids"])
