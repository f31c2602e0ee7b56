"""PartImageNet: ids from 0, outlines of two points, file names without folder, and the second release's label maps."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from partglee.config import get_cfg
from partglee.data import get_dataset
from partglee.data.checks.content import validate
from partglee.data.images import read_image
from partglee.data.prepare.partimagenet import main as partimagenet_main
from partglee.data.prepare.partimagenet import read_partimagenet, read_partimagenet_seg
from partglee.data.segmentation import decode
from partglee.evaluation import build_evaluator
from partglee.structures import Vocabulary
from partglee.testing.miniatures import MINIATURES


@pytest.fixture
def original(data_root: Path) -> Path:
    MINIATURES["partimagenet"](data_root, num_images=5, seed=1)
    assert partimagenet_main([]) == 0
    return data_root / "partimagenet"


def test_parts_alone_keep_the_ids_and_every_annotation(original: Path) -> None:
    raw = json.loads((original / "val.json").read_text())
    made = json.loads((original / "val_format.json").read_text())
    assert [c["id"] for c in made["categories"]] == list(range(40)) and raw["annotations"][0]["id"] == 0
    assert [c["name"] for c in made["categories"]] == [c["name"] for c in raw["categories"]]
    assert [i["id"] for i in made["images"]] == [i["id"] for i in raw["images"]] == list(range(5))
    facts = [
        sorted((a["image_id"], a["category_id"], *a["bbox"], a["area"]) for a in content["annotations"][1:])
        for content in (raw, made)
    ]
    assert facts[0] == facts[1] and min(a["id"] for a in made["annotations"]) == 1
    assert made["info"]["notes"] == {"outlines that enclose nothing (drawn as lines)": 1}
    report = validate(made, images=original / "val")
    assert not report.errors, report.text()


def test_joint_objects_are_the_union_of_their_parts(original: Path) -> None:
    content = json.loads((original / "partimagenet_train_joint.json").read_text())
    assert [c["level"] for c in content["categories"]] == ["object"] * 11 + ["part"] * 40
    assert [c["id"] for c in content["categories"]] == list(range(51)) and content["info"]["parts_without_parent"] == 0
    assert not validate(content, images=original / "train").errors
    records = get_dataset("partimagenet_joint_train").read()
    assert records.vocabulary == Vocabulary.builtin("partimagenet") and len(records) == 5
    for record in records:
        assert read_image(record.source).shape == (record.height, record.width, 3)
        assert len(record.objects) == 1 and {part.parent for part in record.parts} == {0}
        masks = [decode(part.segmentation, record.height, record.width) for part in record.parts]
        whole = decode(record.objects[0].segmentation, record.height, record.width)
        assert (np.logical_or.reduce(masks) == whole).all()
        allowed = records.vocabulary.allowed[record.objects[0].label]
        assert all(allowed[part.label] for part in record.parts)


def test_the_test_split(original: Path) -> None:
    assert partimagenet_main(["--splits", "test"]) == 0
    alone, joint = (get_dataset(f"partimagenet_{name}").read() for name in ("test", "joint_test"))
    assert len(alone) == len(joint) == 5
    for parts, both in zip(alone, joint, strict=True):
        assert parts.file == both.file and parts.file.parts[-3] == "test" and parts.file.is_file()
        assert [p.label for p in parts.parts] == [p.label for p in both.parts] and not parts.objects
        assert len(both.objects) == 1 and {part.parent for part in both.parts} == {0}


def test_tier_is_the_key_and_tire_the_text() -> None:
    vocabulary = Vocabulary.builtin("partimagenet")
    column = vocabulary.part_columns("car")[1]
    assert (vocabulary.part_names[column], vocabulary.part_prompts[column]) == ("tier", "Car Tire")


def test_evaluation_scores_the_parts_of_names_without_a_colon(original: Path) -> None:
    """The released files, and VLPart's, have no `level`: the vocabulary tells that Quadruped Head is a part."""
    path = original / "val_format.json"
    content = json.loads(path.read_text())
    for entry in content["categories"]:
        del entry["level"]
    path.write_text(json.dumps(content))
    spec = get_dataset("partimagenet_val")
    records = spec.read()
    assert not records[0].objects and records[0].parts
    evaluator = build_evaluator(spec.evaluator, ground_truth=content)
    for record in records:
        mine = [dict(a) for a in content["annotations"] if a["image_id"] == record.image_id]
        evaluator.process(record.image_id, [{**a, "score": 0.5} for a in mine])
    results = evaluator.evaluate()
    assert results["segm/AP"] == pytest.approx(100) and results["bbox/AP"] == pytest.approx(100)


def test_files_of_others_are_not_overwritten(original: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = original / "partimagenet_val_joint.json"
    theirs.write_text('{"images": []}')
    assert partimagenet_main(["--splits", "val"]) == 2
    assert "was not made by this script" in capsys.readouterr().err and theirs.read_text() == '{"images": []}'
    assert partimagenet_main(["--splits", "val", "--replace"]) == 0
    assert "0 parts without a parent" in capsys.readouterr().out


def write_raw(folder: Path, segmentations: list[list[list[float]]], file_name: str = "n00000001_1.JPEG") -> Path:
    content = {
        "images": [{"id": 0, "file_name": file_name, "height": 20, "width": 30}],
        "categories": [{"id": 0, "name": "Quadruped Head"}],
        "annotations": [
            {"id": i, "image_id": 0, "category_id": 0, "bbox": [0, 0, 0, 0], "segmentation": polygons}
            for i, polygons in enumerate(segmentations)
        ],
    }
    path = folder / "raw.json"
    path.write_text(json.dumps(content))
    return path


def test_degenerate_outlines_become_pixels(tmp_path: Path) -> None:
    square = [1.0, 1.0, 9.0, 1.0, 9.0, 9.0, 1.0, 9.0]
    shapes = [[[2, 3, 8, 3]], [[5.0, 5.0]], [[40, 50, 41, 52, 42, 50]], [], [square, [3, 3, 4]], [[2, 2, 8, 8, 5, 5]]]
    notes: Counter[str] = Counter()
    (image,) = read_partimagenet(write_raw(tmp_path, shapes), notes)
    parts = image.objects[0].parts
    assert [part.box for part in parts[:4]] == [(2, 3, 7, 1), (5, 5, 1, 1), (29, 19, 1, 1), (0, 0, 1, 1)]
    assert parts[4].segmentation == [square] and parts[4].box == (1, 1, 8, 8)
    assert notes["polygons of fewer than three points beside others (left out)"] == 1
    assert all(part.area > 0 for part in parts) and len(parts) == len(shapes)


def test_what_is_no_partimagenet(tmp_path: Path, data_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="not named as ImageNet"):
        list(read_partimagenet(write_raw(tmp_path, [], "dog.JPEG"), Counter()))
    path = write_raw(tmp_path, [])
    path.write_text(path.read_text().replace("Quadruped Head", "Horse Head"))
    with pytest.raises(ValueError, match="'Horse Head', none"):
        list(read_partimagenet(path, Counter()))
    assert partimagenet_main([]) == 2 and "train.json does not exist" in capsys.readouterr().err
    assert partimagenet_main(["--release", "seg"]) == 2 and "no label maps" in capsys.readouterr().err


def test_seg_release(data_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    MINIATURES["partimagenet_seg"](data_root, num_images=3, seed=2)
    (data_root / "PartImageNet_Seg/annotations/val/._junk.png").write_bytes(b"mac")
    assert partimagenet_main(["--release", "seg", "--splits", "train", "val", "test"]) == 0
    assert "3 objects" in capsys.readouterr().out
    for split in ("train", "val", "test"):
        records = get_dataset(f"partimagenet_seg_{split}").read()
        assert len(records) == 3 and records.issues == {}
        for record in records:
            assert read_image(record.source).shape == (record.height, record.width, 3)
            assert {part.parent for part in record.parts} == {0} and len(record.objects) == 1
            whole = decode(record.objects[0].segmentation, record.height, record.width)
            parts = sum(decode(part.segmentation, record.height, record.width).sum() for part in record.parts)
            assert 0 < parts < whole.sum()  # the object's own mask, not the union


def maps(root: Path, parts: np.ndarray, whole: np.ndarray) -> None:
    for name, values in (("val", parts), ("val_whole", whole)):
        (root / "annotations" / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(root / "annotations" / name / "n00000001_1.png")


def test_seg_parts_outside_of_their_object_have_no_parent(tmp_path: Path) -> None:
    parts, whole = np.full((10, 10), 40, np.uint8), np.full((10, 10), 158, np.uint8)
    whole[2:8, 2:8], whole[9, 9] = 7, 8  # a class with parts, one without
    parts[2:4, 2:8], parts[4:5, 2:4], parts[0, 0:3] = 0, 24, 1  # quadruped head, car body inside it, body outside
    maps(tmp_path, parts, whole)
    notes: Counter[str] = Counter()
    (image,) = read_partimagenet_seg(tmp_path, "val", notes)
    assert [(o.name, [p.name for p in o.parts]) for o in image.objects] == [("Quadruped", ["Quadruped Head"])]
    assert [part.name for part in image.loose] == ["Quadruped Body", "Car Body"]
    assert notes == {"objects without a part, whose kind is unknown (left out)": 1}


@pytest.mark.parametrize(
    "parts, whole, message",
    [
        (np.full((4, 4), 41, np.uint8), np.full((4, 4), 158, np.uint8), r"labels \[41\], but should have 0 to 39"),
        (np.full((4, 4), 40, np.uint8), np.full((4, 4), 200, np.uint8), r"labels \[200\]"),
        (np.full((4, 4), 40, np.uint8), np.full((4, 5), 158, np.uint8), "one of"),
        (np.full((4, 4, 3), 40, np.uint8), np.full((4, 4), 158, np.uint8), "grey PNG"),
    ],
)  # fmt: skip
def test_seg_maps_that_are_wrong(tmp_path: Path, parts: np.ndarray, whole: np.ndarray, message: str) -> None:
    maps(tmp_path, parts, whole)
    with pytest.raises(ValueError, match=message):
        list(read_partimagenet_seg(tmp_path, "val", Counter()))


def test_the_names_of_the_joint_configuration_resolve(root: Path) -> None:
    cfg = get_cfg()
    cfg.merge_from_file(str(root / "configs/joint_r50.yaml"))
    assert get_dataset("partimagenet_joint_train").name in cfg.DATASETS.TRAIN
    names = ("train", "val", "test", "seg_val")
    published = {name: get_dataset(f"partimagenet_{name}").counts.images for name in names}
    assert published == {"train": 16540, "val": 2957, "test": 4598, "seg_val": 1206}
