"""ADE20K-Part-234: ids from 0, two orders of names, 16-bit maps, images that no download has; real scenes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from partglee.config import get_cfg
from partglee.data import get_dataset
from partglee.data.checks.content import validate
from partglee.data.images import read_image
from partglee.data.prepare.ade20k_part_234 import main as ade20k_part_234_main
from partglee.data.prepare.ade20k_part_234 import object_names, read_ade20k_part_234
from partglee.data.prepare.part_maps import part_labels
from partglee.data.prepare.regions import draw_polygons
from partglee.data.segmentation import read_label_map
from partglee.structures.vocabulary_files import split_objects
from partglee.testing.miniatures import MINIATURES
from partglee.testing.miniatures.shapes import write_map, write_picture

LABELS = [label.name for label in part_labels("ade20k_part_234")]


@pytest.fixture
def prepared(data_root: Path) -> Path:
    MINIATURES["ade20k_part_234"](data_root, num_images=6, seed=1)
    assert ade20k_part_234_main([]) == 0
    return data_root / "ADE20KPart234"


def write_split(root: Path, annotations: list[dict[str, Any]], part_map: np.ndarray, split: str = "val") -> None:
    place = {"train": "training", "val": "validation"}[split]
    height, width = part_map.shape
    for number, entry in enumerate(annotations):
        entry.update(id=number, image_id=0, bbox=[0, 0, 1, 1], area=1, iscrowd=0)
    images = [{"id": 0, "file_name": "ADE_x.jpg", "height": height, "width": width}]
    content = {"images": images, "annotations": annotations, "categories": []}
    write_map(root / f"annotations_detectron2_part/{place}/ADE_x.png", part_map)
    write_picture(root / f"images/{place}/ADE_x.jpg", np.zeros((height, width, 3), np.uint8))
    (root / f"ade20k_instance_{split}.json").write_text(json.dumps(content))


def square(x0: float, y0: float, x1: float, y1: float) -> list[list[float]]:
    return [[x0, y0, x1, y0, x1, y1, x0, y1]]


def test_two_orders_of_names(prepared: Path) -> None:
    """Object ids are alphabetical, part labels follow another order of the same objects."""
    assert list(object_names()) == sorted(object_names()) and object_names()[27] == "person"
    assert LABELS[0] == "person's arm" and LABELS[-1] == "light's shade" and len(LABELS) == 234
    content = json.loads((prepared / "ade20k_joint_train.json").read_text())
    assert [c["level"] for c in content["categories"]] == ["object"] * 44 + ["part"] * 234
    assert [c["name"] for c in content["categories"]] == [*object_names(), *LABELS]
    base = json.loads((prepared / "ade20k_base_train.json").read_text())
    assert [c["level"] for c in base["categories"]] == ["object"] * 33 + ["part"] * 176
    assert len(base["images"]) == len(content["images"]) == 6  # the seventh, ADE_frame_*, is not there
    assert content["info"]["notes"] == {"images that are not there (left out)": 1}


@pytest.mark.parametrize("name", ["ade20k_joint_train", "ade20k_joint_val", "ade20k_base_train"])
def test_joint_files(prepared: Path, name: str) -> None:
    spec = get_dataset(name)
    content = json.loads(spec.annotation_path.read_text())
    report = validate(content, images=spec.image_root)
    assert not report.errors and not report.warnings, report.text()
    assert content["annotations"][0]["id"] == 1 and content["images"][0]["id"] == 0
    records = spec.read()
    assert records.issues == {} and sum(len(record.parts) for record in records) > 5
    for record in records:
        assert read_image(record.source).shape == (record.height, record.width, 3)
        assert all(part.parent >= 0 for part in record.parts)
        for part in record.parts:
            assert records.vocabulary.allowed[record.objects[part.parent].label, part.label]


def test_sixteen_bits_are_read(prepared: Path) -> None:
    file = next((prepared / "annotations_detectron2_part/training").glob("*.png"))
    with Image.open(file) as image:
        assert image.mode.startswith("I")
    assert read_label_map(file).max() == 65535


def test_parents_overlap_and_parts_without(tmp_path: Path) -> None:
    """A part goes to every instance of its kind that it lies in; what lies in none has no parent."""
    part_map = np.full((40, 60), 65535, np.uint16)
    part_map[0:10, 0:30] = LABELS.index("chair's back")
    part_map[31:40, 0:10] = LABELS.index("chair's leg")
    part_map[20:34, 20:24] = LABELS.index("chair's seat")  # drawn beyond the border
    part_map[19, 20:24] = LABELS.index("chair's seat")
    part_map[30:32, 50:52] = LABELS.index("chair's arm")  # too small to stand alone
    part_map[20:30, 0:10] = LABELS.index("person's head")  # inside a chair, where no person is annotated
    chair, armchair = object_names().index("chair"), object_names().index("armchair")
    annotations = [
        {"category_id": chair, "segmentation": square(0, 0, 20, 30)},
        {"category_id": chair, "segmentation": square(15, 0, 30, 20)},
        {"category_id": armchair, "segmentation": square(0, 0, 30, 30)},  # another kind, though its name holds "chair"
        {"category_id": chair, "segmentation": [[1, 1, 2, 2]]},
        {"category_id": chair, "segmentation": []},
    ]
    write_split(tmp_path, annotations, part_map)
    notes: Counter[str] = Counter()
    (image,) = read_ade20k_part_234(tmp_path, "val", notes)
    assert [(o.name, [(p.name, p.box) for p in o.parts]) for o in image.objects] == [
        ("chair", [("chair's back", (0, 0, 20, 10))]),
        ("chair", [("chair's back", (15, 0, 15, 10)), ("chair's seat", (20, 19, 4, 15))]), ("armchair", []),
    ]  # fmt: skip
    assert sorted(part.name for part in image.loose) == ["chair's leg", "person's head"]
    assert notes == {"instances without a mask (left out)": 2}


def test_what_is_wrong_is_named(tmp_path: Path, data_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    part_map = np.full((40, 60), 65535, np.uint16)
    part_map[0, 0] = 234
    write_split(tmp_path, [{"category_id": 0, "segmentation": square(0, 0, 9, 9)}], part_map)
    with pytest.raises(ValueError, match=r"labels \[234\], but should have 0 to 233 and 65535"):
        list(read_ade20k_part_234(tmp_path, "val", Counter()))
    write_map(tmp_path / "annotations_detectron2_part/validation/ADE_x.png", part_map[:20])
    with pytest.raises(ValueError, match=r"a map of \(20, 60\)"):
        list(read_ade20k_part_234(tmp_path, "val", Counter()))
    part_map[0, 0] = 65535
    write_split(tmp_path, [{"category_id": 44, "segmentation": square(0, 0, 9, 9)}], part_map)
    with pytest.raises(ValueError, match="category_id 44, but ids are 0 to 43"):
        list(read_ade20k_part_234(tmp_path, "val", Counter()))
    assert ade20k_part_234_main([]) == 2 and "ade20k_instance_train.json does not exist" in capsys.readouterr().err


def test_the_test_set_has_novel_objects_of_training_images(data_root: Path) -> None:
    MINIATURES["ade20k_part_234"](data_root, num_images=8, seed=2)
    novel = set(split_objects("ade20k_part_234", "novel"))
    counts = {}
    for split in ("train", "val"):
        content = json.loads((data_root / f"ADE20KPart234/ade20k_instance_{split}.json").read_text())
        there = {i["id"] for i in content["images"] if "frame" not in i["file_name"]}
        counts[split] = [object_names()[a["category_id"]] for a in content["annotations"] if a["image_id"] in there]
    extra = [name for name in counts["train"] if name in novel]
    records = get_dataset("ade_obj_part_sem_seg_val_obj_condition").read()
    assert extra and len(records) == len(counts["val"]) + len(extra)
    assert len(get_dataset("ade_obj_part_val_obj_condition").read()) == len(records)
    names = [records.vocabulary.object_names[record.objects[0].label] for record in records]
    assert names == counts["val"] + extra and all(len(record.objects) == 1 for record in records)
    assert records[len(records) - 1].file.parent.name == "training"
    train = get_dataset("ade_obj_part_sem_seg_train_obj_condition").read()
    assert len(train) == len(counts["train"]) - len(extra) and len(train.vocabulary.object_names) == 33
    assert len(get_dataset("ade_obj_part_sem_seg_train").read()) <= 8
    for record in records:
        assert read_image(record.source).shape == (record.height, record.width, 3)


def test_real_scenes(shared: Path, data_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three scenes of ADE20K, brought into the benchmark's form: each part comes back under its own object."""
    root = data_root / "ADE20KPart234"
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    expected: set[tuple[int, str, str]] = set()  # (image, box of the object, part)
    ids = {name: number for number, name in enumerate(object_names())}
    for number, file in enumerate(sorted((shared / "data/ade20k_parts_3").rglob("ADE_train_*.json"))):
        scene = json.loads(file.read_text(encoding="latin-1"))["annotation"]
        height, width = (int(side) for side in scene["imsize"][:2])
        part_map = np.full((height, width), 65535, np.uint16)
        by_id = {entry["id"]: entry for entry in scene["object"]}
        for entry in scene["object"]:
            name = entry["name"].split(",")[0]
            points = np.array([entry["polygon"]["x"], entry["polygon"]["y"]], float).T
            polygons = [points.ravel().tolist()]
            if entry["parts"]["part_level"] == 0 and name in ids:
                annotations.append(
                    {"id": len(annotations), "image_id": number, "category_id": ids[name], "segmentation": polygons}
                )
            owner = by_id.get(entry["parts"]["ispartof"] if isinstance(entry["parts"]["ispartof"], int) else None)
            if owner is None or owner["parts"]["part_level"] > 0:
                continue  # a door of a building, which is no door of its own
            label = f"{owner['name'].split(',')[0]}'s {name}"
            if label in LABELS:
                part_map[draw_polygons(polygons, height, width)] = LABELS.index(label)
                expected.add((number, str(min(owner["polygon"]["x"])), label))
        images.append({"id": number, "file_name": f"{file.stem}.jpg", "height": height, "width": width})
        write_map(root / f"annotations_detectron2_part/training/{file.stem}.png", part_map)
        (root / "images/training").mkdir(parents=True, exist_ok=True)
        (root / f"images/training/{file.stem}.jpg").symlink_to(file.with_suffix(".jpg"))
    content = {"images": images, "annotations": annotations, "categories": []}
    (root / "ade20k_instance_train.json").write_text(json.dumps(content))
    assert ade20k_part_234_main(["--splits", "train"]) == 0
    assert "10 parts, 0 parts without a parent" in capsys.readouterr().out
    made = json.loads((root / "ade20k_joint_train.json").read_text())
    report = validate(made, images=root / "images/training")
    assert not report.errors and not report.warnings, report.text()
    names = {entry["id"]: entry["name"] for entry in made["categories"]}
    box = {entry["id"]: entry["bbox"] for entry in made["annotations"]}
    linked = {
        (a["image_id"], str(int(box[a["parent_id"]][0])), names[a["category_id"]])
        for a in made["annotations"]
        if "parent_id" in a
    }
    assert len(images) == 3 and linked == expected and len(linked) >= 9


def test_the_names_of_the_joint_configuration_resolve(root: Path) -> None:
    cfg = get_cfg()
    cfg.merge_from_file(str(root / "configs/joint_r50.yaml"))
    assert get_dataset("ade20k_joint_train").name in cfg.DATASETS.TRAIN
