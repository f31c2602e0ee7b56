"""What the scripts write is what the registered data sets read."""

from __future__ import annotations

from pathlib import Path

import pytest
import raw_samples

from partglee.data import DatasetSpec, get_dataset, list_datasets, register
from partglee.data.images import read_image
from partglee.data.prepare import car_parts, clothing, pascal_part
from partglee.testing import ToyRecords

NAMES = ("car_parts", "clothing", "coco_2017", "coco_subset", "pascal_part_nested", "toy")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PARTGLEE_DATASETS", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_both_splits_are_known(name: str) -> None:
    train, val = get_dataset(f"{name}_train"), get_dataset(f"{name}_val")
    assert train.evaluator == val.evaluator != "" and train.annotations != val.annotations
    assert (train.object_background, train.supervises_parts) == (val.object_background, val.supervises_parts)


def test_the_librarys_own_names_are_taken() -> None:
    with pytest.raises(ValueError, match="a data set 'toy_val' is registered already"):
        register(DatasetSpec("toy_val", "", "", reader=lambda spec: ToyRecords()))
    assert {f"{name}_val" for name in NAMES} <= set(list_datasets())


def test_own_names_beside_them() -> None:
    register(DatasetSpec("prepare_test_own", "", "", reader=lambda spec: ToyRecords()), replace=True)
    assert "prepare_test_own" in list_datasets()
    with pytest.raises(ValueError, match="did you mean 'prepare_test_own'"):
        get_dataset("prepare_test_owm")


def test_car_parts(root: Path) -> None:
    """The defaults of the script are the places that the registered names mean."""
    parts = [("wheel", [(10, 22, 6, 6), (30, 22, 6, 6)]), ("front_bumper", [(10, 10, 20, 8)])]
    raw_samples.car_parts(root / "car_parts" / "trainingset", {"a.jpg": parts, "b.jpg": parts})
    assert car_parts.main([]) == 0
    spec = get_dataset("car_parts_val")
    records = spec.read()
    record = records[0]
    assert len(records) == 1 and read_image(record.source).shape == (40, 60, 3)
    names = [records.vocabulary.part_names[part.label] for part in record.parts]
    assert names == ["wheel", "wheel", "bumper"] and [part.parent for part in record.parts] == [0, 0, 0]
    assert records.vocabulary.part_prompts[0] == "car wheel"
    assert spec.object_background == spec.part_background == "inside"


def test_clothing(root: Path) -> None:
    boxes = [("hair", (20, 0, 10, 5)), ("shirt", (15, 5, 20, 20)), ("purse", (40, 20, 10, 10))]
    raw_samples.clothing(root / "clothing", {"0001": boxes, "0002": boxes})
    assert clothing.main([]) == 0
    records = get_dataset("clothing_train").read()
    record = records[0]
    vocabulary = records.vocabulary
    assert [vocabulary.object_names[instance.label] for instance in record.objects] == ["person", "handbag"]
    assert {vocabulary.part_prompts[part.label] for part in record.parts} == {"person hair", "shirt"}
    assert read_image(record.source).shape == (80, 60, 3)


def test_pascal_part(root: Path) -> None:
    raw_samples.pascal_part(root / "pascal_part_nested", "x", [("dog", (0, 0, 20, 20), [("head", (2, 2, 9, 9))])])
    assert pascal_part.main(["--val-share", "0"]) == 0
    records = get_dataset("pascal_part_nested_train").read()
    assert records[0].parts[0].parent == 0 and read_image(records[0].source).shape == (40, 60, 3)
    assert len(records.vocabulary.object_names) == 20 and len(records.vocabulary.part_names) == 93
