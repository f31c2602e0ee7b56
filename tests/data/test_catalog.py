"""Where data sets lie, how much they should hold, and that each is read once."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import coco_files
import pytest

from partglee.data import DataSets, DatasetSpec, catalog, datasets_root, get_dataset, list_datasets, register
from partglee.data.datasets import SPECS
from partglee.data.spec import UNCONFIRMED, Counts, divided, missing_files, splits


def test_roots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PARTGLEE_DATASETS", raising=False)
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    assert datasets_root() == Path("datasets")
    monkeypatch.setenv("DETECTRON2_DATASETS", "/theirs")
    assert get_dataset("coco_2017_val").image_root == Path("/theirs/coco/val2017")
    monkeypatch.setenv("PARTGLEE_DATASETS", "/ours")
    assert get_dataset("coco_2017_val").annotation_path == Path("/ours/coco/annotations/instances_val2017.json")


@pytest.mark.parametrize(("name", "said"), [("coco_2017_vall", r"; did you mean 'coco_2017_val'.*\? "), ("?", "; ")])
def test_an_unknown_name(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"no data set {re.escape(repr(name))}{said}`partglee data list` shows all"):
        get_dataset(name)


def test_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTGLEE_DATASETS", str(tmp_path))
    spec = get_dataset("voc_obj_part_sem_seg_val")
    spec.image_root.mkdir(parents=True)
    objects = "PascalPart116/annotations_detectron2_obj/val"
    assert missing_files(spec) == {"annotations": spec.annotation_path, objects: tmp_path / objects}


def test_counts_beside_what_is_there() -> None:
    counts = Counts(images=5, objects=7, part_names=0, unconfirmed=("objects",))
    assert counts.told() == {"images": (5, "published"), "objects": (7, UNCONFIRMED), "part names": (0, "published")}
    found = counts.beside({"images": 5, "objects": 6, "parts": 2, "annotations": 8, "part names": 1, "object names": 3})
    assert found == [
        ("5 images (published)", True), ("6 objects INSTEAD OF 7 (expected, unconfirmed)", False), ("2 parts", True),
        ("1 part names INSTEAD OF 0 (published)", False),
    ]  # fmt: skip


def test_counts_that_nobody_confirmed_are_told_apart() -> None:
    """Of the numbers of spec/part_data_and_evaluation.md those from memory or second hand."""
    doubtful = {
        counts.images
        for counts in (get_dataset(name).counts for name in list_datasets())
        if "images" in counts.unconfirmed and counts.images is not None
    }
    assert doubtful == {8431, 850, 7347, 1016, 20481, 2408, 4809, 1500, 750}


def test_the_librarys_own_names(root: Path) -> None:
    """Names are what configurations and commands say: none goes, none comes unseen, none is given twice."""
    names = sorted(spec.name for spec in SPECS)
    assert names == (root / "tests" / "golden" / "dataset_names.txt").read_text().split()
    assert len(names) == len(set(names)) and set(names) <= set(list_datasets())
    assert not [spec.name for spec in SPECS if "{" in spec.name + spec.annotations + spec.images]


def test_splits() -> None:
    files = DatasetSpec(
        "a_{split}", "a/{split}.json", "{split}", coco_files.spec_of(Path()).reader, needs=("{split}/maps",),
        counts=Counts(parts=3),
    )  # fmt: skip
    train, val = splits(files, train={"images": 5}, val={})
    assert (train.name, train.annotations, train.images) == ("a_train", "a/train.json", "train")
    assert train.needs == ("train/maps",) and train.counts == Counts(images=5, parts=3)
    assert (val.name, val.counts) == ("a_val", Counts(parts=3))


def test_a_split_is_divided() -> None:
    files = DatasetSpec(
        "a_{split}", "a/{split}.json", "{split}", coco_files.spec_of(Path()).reader, counts=Counts(parts=3)
    )
    first, second = divided(files, split="val", choose=(0.0, 0.5), test=(0.5, 1.0))
    assert (first.name, first.annotations, first.images) == ("a_choose", "a/val.json", "val")
    assert (first.select, second.select) == ((0.0, 0.5), (0.5, 1.0)) and second.name == "a_test"
    assert first.counts == Counts(), "counts of the whole split are not those of a share"


def test_what_is_reported_was_neither_trained_with_nor_chosen_on() -> None:
    apart = {
        "car_parts": ("car_parts_fit", "car_parts_val", "car_parts_test"),
        "clothing": ("clothing_train", "clothing_val", "clothing_more_train", "clothing_test"),
        "faces": ("faces_train", "faces_val", "faces_test"),
        "coco": ("coco_subset_train", "coco_subset_choose", "coco_subset_test"),
    }
    for names in apart.values():
        shares: dict[str, list[tuple[float, float]]] = {}
        for name in names:
            spec = get_dataset(name)
            shares.setdefault(spec.annotations, []).append(spec.select)
        for parts in shares.values():
            parts.sort()
            assert all(one[1] <= two[0] for one, two in pairwise(parts)), names


def test_a_run_reads_each_data_set_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "_DATASETS", {})
    coco_files.write(tmp_path, coco_files.two_images())
    spec, data = register(coco_files.spec_of(tmp_path)), DataSets()
    records = data.records(spec.name)
    coco_files.write(tmp_path, {**coco_files.two_images(), "images": []})  # a second look would see this
    assert data.records(spec.name) is records
    register(coco_files.spec_of(tmp_path, options={"path_parts": 1}), replace=True)
    with pytest.raises(ValueError, match="none of its 4 annotations"):
        data.records(spec.name)
    with pytest.raises(ValueError, match="no data set 'nowhere'"):
        data.records("nowhere")
