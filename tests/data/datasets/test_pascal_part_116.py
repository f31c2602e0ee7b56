"""Pascal-Part-116: pairs of 8-bit maps with 255, instances from regions or from .mat files, samples by object class."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from partglee.cli import main
from partglee.config import get_cfg
from partglee.data import get_dataset
from partglee.data.checks.content import validate
from partglee.data.images import read_image
from partglee.data.prepare.part_maps import part_labels
from partglee.data.prepare.pascal_part import read_objects
from partglee.data.prepare.pascal_part_116 import _SPELLING, object_names, read_pascal_part_116
from partglee.data.prepare.pascal_part_116 import main as pascal_part_116_main
from partglee.data.segmentation import decode
from partglee.evaluation import SemanticPartEvaluator
from partglee.testing.miniatures import MINIATURES
from partglee.testing.miniatures.pascal_part import write_mat
from partglee.testing.miniatures.shapes import Scene, Shape, write_picture

PERSON, DOG, HEAD, HAIR, DOG_HEAD = 14, 11, 83, 93, 61  # numbers of the maps
LABELS = [label.name for label in part_labels("pascal_part_116")]


@pytest.fixture
def prepared(data_root: Path) -> Path:
    MINIATURES["pascal_part_116"](data_root, num_images=6, seed=1)
    assert pascal_part_116_main([]) == 0
    return data_root / "PascalPart116"


def pair(root: Path, objects: np.ndarray, parts: np.ndarray, stem: str = "2008_000001") -> None:
    for level, values in (("obj", objects), ("part", parts)):
        folder = root / f"annotations_detectron2_{level}/val"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(folder / f"{stem}.png")
    write_picture(root / f"images/val/{stem}.jpg", np.zeros((40, 60, 3), np.uint8))


def two_people() -> tuple[np.ndarray, np.ndarray]:
    """Two who touch, each with a head; a speck; hair on a dog's region."""
    objects, parts = np.full((40, 60), 255, np.uint8), np.full((40, 60), 255, np.uint8)
    objects[5:35, 5:25], objects[5:35, 40:55], objects[0, 0] = PERSON, DOG, PERSON
    parts[5:10, 5:25], parts[5:10, 40:45], parts[20:26, 45:51] = HEAD, DOG_HEAD, HAIR
    return objects, parts


def test_numbers_of_the_maps(prepared: Path) -> None:
    content = json.loads((prepared / "pascalvoc_joint_train.json").read_text())
    names = [entry["name"] for entry in content["categories"]]
    assert len(names) == 136 and [c["level"] for c in content["categories"]] == ["object"] * 20 + ["part"] * 116
    assert names[PERSON] == "person" and names[20 + HEAD] == "person's head" and names[20 + HAIR] == "person's hair"
    assert names[20 + DOG_HEAD] == "dog's head" and names[-1] == "tvmonitor's screen"
    base = json.loads((prepared / "pascalvoc_base_train.json").read_text())
    assert [c["level"] for c in base["categories"]] == ["object"] * 15 + ["part"] * 74
    assert not {"bird", "car", "dog", "motorbike", "sheep"} & {c["name"].split("'s")[0] for c in base["categories"]}
    assert len(base["images"]) == len(content["images"]) and len(base["annotations"]) < len(content["annotations"])


@pytest.mark.parametrize("name", ["pascalvoc_joint_train", "pascalvoc_joint_val", "pascalvoc_base_train"])
def test_joint_files(prepared: Path, name: str) -> None:
    spec = get_dataset(name)
    report = validate(json.loads(spec.annotation_path.read_text()), images=spec.image_root)
    assert not report.errors and not report.warnings, report.text()
    records = spec.read()
    assert records.issues == {} and any(record.parts for record in records)
    for record in records:
        assert read_image(record.source).shape == (record.height, record.width, 3)
        assert all(part.parent >= 0 for part in record.parts)


def test_connected_regions_are_instances(tmp_path: Path) -> None:
    pair(tmp_path, *two_people())
    notes: Counter[str] = Counter()
    (image,) = read_pascal_part_116(tmp_path, "val", notes)
    assert [(o.name, [p.name for p in o.parts]) for o in image.objects] == [
        ("dog", ["dog's head"]), ("person", ["person's head"]),
    ]  # fmt: skip
    assert image.objects[1].area == 600  # the speck is no person of its own
    assert [part.name for part in image.loose] == ["person's hair"]
    assert notes == {"images whose instances are connected regions": 1}


def test_mat_files_tell_instances_apart(tmp_path: Path) -> None:
    pair(tmp_path, *two_people())
    masks = [np.zeros((40, 60), bool) for _ in range(3)]
    masks[0][5:35, 5:15], masks[1][5:35, 15:25], masks[2][5:35, 40:50] = True, True, True
    shapes = [Shape("person", masks[0], ()), Shape("person", masks[1], ()), Shape("dog", masks[2], ())]
    write_mat(tmp_path / "mats/2008_000001.mat", Scene(np.zeros((40, 60, 3), np.uint8), tuple(shapes)))
    notes: Counter[str] = Counter()
    (image,) = read_pascal_part_116(tmp_path, "val", notes, instances=tmp_path / "mats")
    assert [(o.name, o.box, len(o.parts)) for o in image.objects] == [
        ("dog", (40, 5, 10, 30), 1), ("dog", (50, 5, 5, 30), 0),
        ("person", (5, 5, 10, 30), 1), ("person", (15, 5, 10, 30), 1),
    ]  # fmt: skip
    assert notes == {"regions in no object of the .mat file (objects of their own)": 1}
    masks[0] = np.zeros((20, 20), bool)
    write_mat(tmp_path / "mats/2008_000001.mat", Scene(np.zeros((1, 1, 3), np.uint8), (Shape("person", masks[0], ()),)))
    list(read_pascal_part_116(tmp_path, "val", notes, instances=tmp_path / "mats"))
    assert notes["images whose .mat file has another size (instances are connected regions)"] == 1


def test_maps_that_are_wrong(tmp_path: Path, data_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    objects, parts = two_people()
    pair(tmp_path, objects, np.where(parts == HEAD, 116, parts).astype(np.uint8))
    with pytest.raises(ValueError, match=r"labels \[116\], but should have 0 to 115 and 255"):
        list(read_pascal_part_116(tmp_path, "val", Counter()))
    pair(tmp_path, objects[:20], parts)
    with pytest.raises(ValueError, match="one of"):
        list(read_pascal_part_116(tmp_path, "val", Counter()))
    (tmp_path / "annotations_detectron2_obj/val/2008_000001.png").write_bytes(b"cut off")
    with pytest.raises(ValueError, match="not a readable label map"):
        list(read_pascal_part_116(tmp_path, "val", Counter()))
    (tmp_path / "images/val/2008_000001.jpg").unlink()
    notes: Counter[str] = Counter()
    assert not list(read_pascal_part_116(tmp_path, "val", notes)) and notes == {"maps without an image (left out)": 1}
    assert pascal_part_116_main([str(tmp_path), "--splits", "train"]) == 2
    assert "no label maps (.png)" in capsys.readouterr().err


def test_one_sample_for_each_object_class(data_root: Path) -> None:
    root = data_root / "PascalPart116"
    pair(root, *two_people())
    whole = get_dataset("voc_obj_part_sem_seg_val").read()
    single = get_dataset("voc_obj_part_sem_seg_val_obj_condition").read()
    assert (len(whole), len(single)) == (1, 2) and single.size(0) == (40, 60)
    names = single.vocabulary.object_names
    assert [[names[o.label] for o in record.objects] for record in single] == [["dog"], ["person"]]
    person = single[1].objects[0]
    assert person.annotation_id == PERSON and decode(person.segmentation, 40, 60).sum() == 601
    assert [part.label for part in single[0].parts] == [DOG_HEAD] and single.labels(1) == ({PERSON}, {HEAD})
    assert len(whole[0].objects) == 2 and [part.parent for part in whole[0].parts] == [0, 1]


def test_samples_feed_the_semantic_evaluator(data_root: Path) -> None:
    """Parts of a sample are the annotated map inside the object: predicted as they are, they score 100."""
    MINIATURES["pascal_part_116"](data_root, num_images=6, seed=2)
    records = get_dataset("voc_obj_part_sem_seg_val_obj_condition").read()
    evaluator = SemanticPartEvaluator(num_classes=116, boundary_width=None)
    for record in records:
        truth = np.full((record.height, record.width), 255)
        for part in record.parts:
            truth[decode(part.segmentation, record.height, record.width)] = part.label
        mask = decode(record.objects[0].segmentation, record.height, record.width)
        evaluator.process(record.image_id, truth, truth, object_mask=mask)
    results = evaluator.evaluate()
    assert results["A/mIoU"] == results["B/mIoU"] == 100
    assert results["num_samples"] + results["num_samples_without_part"] >= len(records)


def test_training_samples_have_base_names_alone(data_root: Path) -> None:
    MINIATURES["pascal_part_116"](data_root, num_images=8, seed=3)
    records = get_dataset("voc_obj_part_sem_seg_train_obj_condition").read()
    assert (len(records.vocabulary.object_names), len(records.vocabulary.part_names)) == (15, 74)
    assert all(len(record.objects) == 1 for record in records)
    assert len(get_dataset("voc_obj_part_sem_seg_train").read()) == 8


def test_real_instances(shared: Path, tmp_path: Path) -> None:
    """Class maps drawn from real `.mat` files: the files give the instances back, each with its parts.

    Real objects overlap by some pixels, which both get: a part may be larger than what was drawn, never smaller.
    """
    source = shared / "data/pascal_part_18/examples"
    names = object_names()
    expected: dict[tuple[str, str], list[int]] = defaultdict(list)  # (image, part) -> pixels, of each instance
    count = 0
    for file in sorted(source.glob("*.mat")):
        raws = [(_SPELLING.get(raw.kind, raw.kind), raw) for raw in read_objects(file)]
        objects, parts, owner = (np.full(raws[0][1].mask.shape, 255, np.uint8) for _ in range(3))
        for row, (name, raw) in enumerate(raws):
            new = raw.mask & (objects == 255)  # no pixel of two objects, as in a map of classes
            objects[new], owner[new] = names.index(name), row
            for part, mask in raw.parts:
                if f"{name}'s {part}" in LABELS:
                    parts[mask & new] = LABELS.index(f"{name}'s {part}")
        count += len(np.unique(owner)) - 1
        for row, label in np.unique(np.stack([owner, parts], -1).reshape(-1, 2), axis=0).tolist():
            if label != 255:
                pixels = int(((owner == row) & (parts == label)).sum())
                expected[file.stem, LABELS[label]].append(pixels)
        pair(tmp_path, objects, parts, file.stem)
    notes: Counter[str] = Counter()
    images = list(read_pascal_part_116(tmp_path, "val", notes, instances=source))
    assert len(images) == 18 and not notes and not any(image.loose for image in images)
    assert sum(len(image.objects) for image in images) == count == 53
    found: dict[tuple[str, str], list[int]] = defaultdict(list)
    for image in images:
        for part in (part for region in image.objects for part in region.parts):
            found[Path(image.file_name).stem, part.name].append(int(part.area))
    assert found.keys() == expected.keys() and sum(map(len, expected.values())) > 60
    for key, pixels in expected.items():
        assert len(found[key]) >= len(pixels), key
        largest = sorted(found[key], reverse=True)
        assert all(a >= b for a, b in zip(largest, sorted(pixels, reverse=True), strict=False)), key


def test_the_names_of_the_joint_configuration_resolve(root: Path) -> None:
    cfg = get_cfg()
    cfg.merge_from_file(str(root / "configs/joint_r50.yaml"))
    assert get_dataset("pascalvoc_joint_train").name in cfg.DATASETS.TRAIN


def test_the_commands_take_maps_and_files(prepared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("voc_obj_part_sem_seg_val", "pascalvoc_joint_val"):
        assert main(["data", "check", name, "--no-draw"]) == 0
        assert "6 images INSTEAD OF 850 (expected, unconfirmed)" in capsys.readouterr().out
    part_map = next((prepared / "annotations_detectron2_part/val").rglob("*.png"))
    part_map.write_bytes(b"no picture")
    assert main(["data", "check", "voc_obj_part_sem_seg_val", "--no-draw"]) == 1
    assert f"1 x sample that cannot be read: {part_map}" in capsys.readouterr().out
    assert main(["data", "list", "--count"]) == 0
    assert "6 images INSTEAD OF 850 (expected, unconfirmed)" in capsys.readouterr().out
