"""Pascal-Part-93: VLPart's flat files, the joint files, base and novel; on a miniature and on the 18 real images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as rle

from partglee.config import get_cfg
from partglee.data import get_dataset
from partglee.data.checks.content import validate
from partglee.data.images import read_image
from partglee.data.prepare.pascal_part import part_rule
from partglee.data.prepare.pascal_part_93 import main as pascal_part_93_main
from partglee.data.segmentation import decode
from partglee.structures import Vocabulary
from partglee.structures.vocabulary_files import split_objects
from partglee.testing.miniatures import MINIATURES
from partglee.testing.miniatures.pascal_part import write_mat
from partglee.testing.miniatures.shapes import Scene, Shape, write_picture


def load(root: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((root / "pascal_part" / name).read_text())
    return content


def names_of(content: dict[str, Any]) -> list[str]:
    names = {entry["id"]: entry["name"] for entry in content["categories"]}
    return [names[entry["category_id"]] for entry in content["annotations"]]


def filled(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros((40, 60), bool)
    mask[top:bottom, left:right] = True
    return mask


def write_images(root: Path, split: str, images: dict[str, list[Shape]]) -> None:
    voc = root / "pascal_part/VOCdevkit/VOC2010"
    for stem, shapes in images.items():
        pixels = np.full((40, 60, 3), 99, np.uint8)
        write_mat(root / f"pascal_part/Annotations_Part/{stem}.mat", Scene(pixels, tuple(shapes)))
        write_picture(voc / f"JPEGImages/{stem}.jpg", pixels)
    (voc / "ImageSets/Main").mkdir(parents=True, exist_ok=True)
    (voc / f"ImageSets/Main/{split}.txt").write_text("\n".join(images))


DOG = Shape("dog", filled(0, 0, 20, 20), (("lear", filled(2, 2, 6, 7)), ("rfpa", filled(8, 8, 9, 9)),
                                          ("head", filled(0, 0, 8, 8))))  # fmt: skip
BICYCLE = Shape("bicycle", filled(20, 20, 40, 50), (("fwheel", filled(25, 20, 30, 30)),
                                                    ("chainwheel", filled(30, 30, 32, 33))))  # fmt: skip
PERSON = Shape("person", filled(0, 40, 30, 60), (("lebrow", filled(2, 45, 3, 50)),))
BOAT = Shape("boat", filled(30, 0, 40, 10), ())


@pytest.fixture
def prepared(data_root: Path) -> Path:
    images = {
        "2008_000002": [DOG, BICYCLE], "2008_000010": [DOG], "2009_000003": [BICYCLE], "2010_000004": [PERSON, BOAT],
    }  # fmt: skip
    write_images(data_root, "train", images)
    assert pascal_part_93_main(["--splits", "train"]) == 0
    return data_root


def test_flat_files_repeat_vlpart(prepared: Path) -> None:
    """Ids of images are digits; chainwheels are wheels; boxes lack a pixel, areas are those of boxes; no objects."""
    content = load(prepared, "train.json")
    assert [image["id"] for image in content["images"]] == [2008000002, 2008000010, 2009000003]  # the person: no part
    assert [c["id"] for c in content["categories"]] == list(range(1, 94))
    names = names_of(content)
    assert names == ["dog:ear", "dog:paw", "dog:head", "bicycle:wheel", "bicycle:wheel",
                     "dog:ear", "dog:paw", "dog:head", "bicycle:wheel", "bicycle:wheel"]  # fmt: skip
    ear, paw = content["annotations"][:2]
    assert (ear["bbox"], ear["area"]) == ([2, 2, 4, 3], 12) and rle.area(ear["segmentation"]) == 20
    assert (paw["bbox"], paw["area"]) == ([8, 8, 0, 0], 0)  # never matched in box AP, as upstream
    assert min(a["id"] for a in content["annotations"]) == 1
    record = get_dataset("pascal_part_train").read()[0]
    assert len(record.parts) == 5 and record.parts[1].box == (8, 8, 9, 9)  # training takes the box of the mask


def test_variants_of_the_training_file(prepared: Path) -> None:
    assert [image["id"] for image in load(prepared, "train_one.json")["images"]] == [2008000010, 2009000003]
    one = load(prepared, "train_base_one.json")
    assert [image["id"] for image in one["images"]] == [2009000003]
    assert [c["id"] for c in one["categories"]] == list(range(1, 78)) and names_of(one) == ["bicycle:wheel"] * 2
    flat = load(prepared, "train_base.json")
    assert [image["id"] for image in flat["images"]] == [2008000002, 2008000010, 2009000003]  # those of dogs stay
    assert flat["categories"] == one["categories"] and names_of(flat) == ["bicycle:wheel"] * 4
    assert len(get_dataset("pascal_part_base_train_parts").read().vocabulary.part_names) == 77
    joint = load(prepared, "train_base_joint.json")
    assert [c["level"] for c in joint["categories"]] == ["object"] * 12 + ["part"] * 77
    assert [image["id"] for image in joint["images"]] == [2008000002, 2008000010, 2009000003, 2010000004]
    assert names_of(joint) == ["bicycle", "bicycle:wheel", "bicycle", "bicycle:wheel", "person"]  # no dog, no boat
    records = get_dataset("pascal_part_base_train").read()
    assert records.vocabulary == Vocabulary.builtin("pascal_part", split="base") and len(records[1].objects) == 0


def test_joint_file_has_every_object_and_true_links(prepared: Path) -> None:
    content = load(prepared, "voc2010_train_joint.json")
    assert [c["level"] for c in content["categories"]] == ["object"] * 20 + ["part"] * 93
    assert content["info"]["parts_without_parent"] == 0 and len(content["images"]) == 4
    report = validate(content, images=prepared / "pascal_part/VOCdevkit/VOC2010/JPEGImages")
    assert not report.errors and not report.warnings, report.text()
    assert names_of(content)[:6] == ["dog", "dog:ear", "dog:paw", "dog:head", "bicycle", "bicycle:wheel"]
    assert content["annotations"][1]["bbox"] == [2, 2, 5, 4] and names_of(content)[-2:] == ["person", "boat"]
    records = get_dataset("pascal_joint_train").read()
    assert (len(records.vocabulary.object_names), len(records.vocabulary.part_names)) == (20, 93)
    assert [part.parent for part in records[0].parts] == [0, 0, 0, 1]


def test_splits_and_vocabularies() -> None:
    base, novel = split_objects("pascal_part", "base"), split_objects("pascal_part", "novel")
    assert novel == ("bus", "dog") and len(base) == 12
    assert len(Vocabulary.builtin("pascal_part", split="base").part_names) == 77
    assert len(Vocabulary.builtin("pascal_part", split="novel").part_names) == 16
    whole = Vocabulary.builtin("pascal_part")
    assert set(Vocabulary.builtin("pascal_part", split="base").part_prompts) < set(whole.part_prompts)
    with pytest.raises(ValueError, match="no split 'base'"):
        split_objects("paco", "base")
    spec = get_dataset("pascal_part_open_vocabulary_val")
    assert spec.annotations == get_dataset("pascal_part_val").annotations and spec.evaluator == "pascal_part"
    assert not spec.supervises_objects and get_dataset("pascal_part_base_train").supervises_objects


def test_the_rule_of_vlpart_differs_in_chainwheels_alone() -> None:
    assert part_rule(vlpart=True)("bicycle", "chainwheel") == "wheel" and part_rule()("bicycle", "chainwheel") is None
    assert part_rule(vlpart=True).objects == part_rule().objects


def test_miniature(data_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    MINIATURES["pascal_part"](data_root, num_images=5, seed=7)
    assert pascal_part_93_main([]) == 0
    assert "1 x images of the list without a .mat file (left out)" in capsys.readouterr().out
    for name in ("pascal_joint_train", "pascal_joint_val", "pascal_part_base_train", "pascal_part_val"):
        records = get_dataset(name).read()
        for record in records:
            assert read_image(record.source).shape == (record.height, record.width, 3)
            for part in record.parts if record.objects else ():
                whole = decode(record.objects[part.parent].segmentation, record.height, record.width)
                assert part.parent >= 0 and not (decode(part.segmentation, *whole.shape) & ~whole).any()


def test_a_share_without_images_of_one_object(data_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(data_root, "train", {"2008_000002": [DOG, BICYCLE]})
    assert pascal_part_93_main(["--splits", "train"]) == 0
    assert "train_one.json: not written, no image is left for it" in capsys.readouterr().out
    assert not (data_root / "pascal_part/train_one.json").exists()
    (data_root / "pascal_part/VOCdevkit/VOC2010/ImageSets/Main/train.txt").write_text("2007_000001")
    assert pascal_part_93_main(["--splits", "train"]) == 2 and "no image was found" in capsys.readouterr().err


def test_missing_pieces_are_named(data_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pascal_part_93_main([]) == 2 and "no list of images" in capsys.readouterr().err
    MINIATURES["pascal_part"](data_root, num_images=2, seed=0)
    (data_root / "pascal_part/VOCdevkit/VOC2010/JPEGImages/2009_000002.jpg").unlink()
    assert pascal_part_93_main(["--splits", "val"]) == 2 and "2009_000002.mat has no image" in capsys.readouterr().err
    shutil.rmtree(data_root / "pascal_part/Annotations_Part")
    assert pascal_part_93_main([]) == 2 and "no folder" in capsys.readouterr().err


def test_real_files(shared: Path, data_root: Path) -> None:
    source = shared / "data/pascal_part_18/examples"
    voc = data_root / "pascal_part/VOCdevkit/VOC2010"
    for folder in (voc / "JPEGImages", voc / "ImageSets/Main", data_root / "pascal_part/Annotations_Part"):
        folder.mkdir(parents=True)
    stems = sorted(file.stem for file in source.glob("*.mat"))
    for stem in stems:
        (voc / "JPEGImages" / f"{stem}.jpg").symlink_to(source / f"{stem}.jpg")
        (data_root / "pascal_part/Annotations_Part" / f"{stem}.mat").symlink_to(source / f"{stem}.mat")
    (voc / "ImageSets/Main/train.txt").write_text("\n".join(stems))
    assert pascal_part_93_main(["--splits", "train"]) == 0
    joint = load(data_root, "voc2010_train_joint.json")
    report = validate(joint, images=voc / "JPEGImages")
    assert not report.errors, report.text()
    assert (len(joint["images"]), sum("parent_id" not in a for a in joint["annotations"])) == (18, 53)
    assert len(joint["annotations"]) == 53 + 364 and joint["info"]["parts_without_parent"] == 0
    flat = load(data_root, "train.json")
    with_parts = {a["image_id"] for a in joint["annotations"] if "parent_id" in a}
    assert len(flat["annotations"]) == 364 and {image["id"] for image in flat["images"]} == with_parts
    assert len(with_parts) == 16
    records = get_dataset("pascal_joint_train").read()
    assert records.issues == {} and sum(len(record.parts) for record in records) == 364


def test_the_names_of_the_joint_configuration_resolve(root: Path) -> None:
    cfg = get_cfg()
    cfg.merge_from_file(str(root / "configs/joint_r50.yaml"))
    assert get_dataset("pascal_joint_train").name in cfg.DATASETS.TRAIN
