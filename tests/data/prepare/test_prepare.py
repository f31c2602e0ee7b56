"""Raw folders in their authors' forms -> hierarchical COCO JSON, by the scripts' own entry points."""

from __future__ import annotations

import json
import math
import re
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import raw_samples
from pycocotools import mask as rle

from partglee.data.checks.content import validate
from partglee.data.prepare import car_parts, clothing, coco, partimagenet, pascal_part
from partglee.data.prepare.car_parts import read_car_parts
from partglee.data.prepare.clothing import read_clothing
from partglee.data.prepare.files import AnnotatedImage, num_validation, write_splits
from partglee.data.prepare.mapping import load_mapping
from partglee.data.prepare.pascal_part import part_rule, read_pascal_part
from partglee.data.prepare.regions import Region
from partglee.testing.miniatures.partimagenet import write_partimagenet


def rows(file: Path) -> list[tuple[str, list[float], str | None]]:
    """(name, box, name of the parent) of every annotation; the file must be free of errors."""
    content = json.loads(file.read_text())
    report = validate(content)
    assert not report.errors and not report.warnings, report.text()
    names = {entry["id"]: entry["name"] for entry in content["categories"]}
    by_id = {entry["id"]: entry for entry in content["annotations"]}
    assert 0 not in by_id
    return [
        (names[e["category_id"]], e["bbox"], names[by_id[e["parent_id"]]["category_id"]] if "parent_id" in e else None)
        for e in content["annotations"]
    ]


def test_car_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = [
        ("front_left_door", [(10, 10, 10, 10)]),
        ("back_left_door", [(20, 10, 10, 10)]),
        ("wheel", [(10, 22, 6, 6), (30, 22, 6, 6), (50, 30, 1, 1)]),  # two wheels and a slip of the pen
        ("hood", [(0, 0, 2, 2)]),  # too small
    ]
    raw = raw_samples.car_parts(tmp_path / "raw", {"b.jpg": parts, "a.jpg": parts[:1], "c.jpg": []})
    assert car_parts.main([str(raw), "--output", str(tmp_path), "--val-share", "0.5"]) == 0
    assert "train: " in capsys.readouterr().out
    assert rows(tmp_path / "train.json") == [
        ("car", [10, 10, 10, 10], None), ("car:door", [10, 10, 10, 10], "car"),
    ]  # fmt: skip
    assert rows(tmp_path / "val.json") == [
        ("car", [10, 10, 26, 18], None),
        ("car:door", [10, 10, 10, 10], "car"), ("car:door", [20, 10, 10, 10], "car"),
        ("car:wheel", [10, 22, 6, 6], "car"), ("car:wheel", [30, 22, 6, 6], "car"),
    ]  # fmt: skip
    content = json.loads((tmp_path / "val.json").read_text())
    masks = [rle.decode(entry["segmentation"]).astype(bool) for entry in content["annotations"]]
    assert (masks[0] == np.logical_or.reduce(masks[1:])).all()
    assert [image["file_name"] for image in content["images"]] == ["JPEGImages/b.jpg"]  # c.jpg has no part


def test_clothing(tmp_path: Path) -> None:
    boxes = [
        ("skin", (20, 5, 10, 10)), ("hair", (20, 0, 10, 5)), ("t-shirt", (15, 15, 20, 20)), ("bag", (40, 20, 10, 10)),
        ("accessories", (50, 0, 5, 5)), ("jeans", (18, 35, 14, 25)), ("belt", (18, 35, 14, 3)),
        ("shoes", (14, 62, 8, 6)), ("shoes", (30, 62, 8, 6)), ("socks", (0, 0, 2, 2)),
    ]  # fmt: skip
    raw = raw_samples.clothing(tmp_path / "raw", {"0001": boxes, "0002": []})  # the second map is blank
    assert clothing.main([str(raw), "--output", str(tmp_path), "--val-share", "0"]) == 0
    found = rows(tmp_path / "train.json")
    assert [row for row in found if row[2] is None] == [
        ("person", [14, 0, 24, 68], None),  # skin counts, accessories, bags and specks do not
        ("handbag", [40, 20, 10, 10], None),
    ]
    assert {row for row in ((name, tuple(box)) for name, box, parent in found if parent == "person")} == {
        ("person:hair", (20, 0, 10, 5)), ("person:shirt", (15, 15, 20, 20)), ("person:jean", (18, 38, 14, 22)),
        ("person:belt", (18, 35, 14, 3)), ("person:shoe", (14, 62, 8, 6)), ("person:shoe", (30, 62, 8, 6)),
    }  # fmt: skip
    content = json.loads((tmp_path / "train.json").read_text())
    assert len(content["images"]) == 1 and not json.loads((tmp_path / "val.json").read_text())["images"]


def test_pascal_part(tmp_path: Path) -> None:
    dog = ("dog", (5, 5, 30, 20), [
        ("lear", (6, 5, 2, 2)), ("lfleg", (8, 15, 3, 8)), ("rfpa", (8, 22, 3, 3)), ("muzzle", (5, 8, 4, 4)),
        ("head", (5, 5, 8, 8)), ("tail", (30, 10, 3, 3)), ("rfho", (20, 20, 2, 2)), ("leye", (6, 6, 0, 0)),
    ])  # fmt: skip
    bicycle = ("bicycle", (40, 5, 15, 15), [("fwheel", (40, 10, 5, 5)), ("chainwheel", (46, 12, 2, 2))])
    car = (
        "car",
        (0, 28, 20, 10),
        [("wheel_1", (2, 34, 4, 4)), ("wheel_12", (12, 34, 4, 4)), ("fliplate", (1, 30, 2, 2))],
    )
    raw = raw_samples.pascal_part(tmp_path, "2008_000001", [dog, bicycle, car, ("table", (40, 25, 10, 10), [])])
    raw_samples.pascal_part(tmp_path, "2008_000002", [("person", (0, 0, 10, 20), [("lebrow", (2, 2, 2, 1))])])
    raw_samples.pascal_part(tmp_path, "2008_000003", [("boat", (0, 0, 0, 0), [])])  # a mask without a pixel
    assert pascal_part.main([str(raw), "--output", str(tmp_path), "--val-share", "0.3"]) == 0
    found = rows(tmp_path / "train.json")
    assert [(name, parent) for name, _, parent in found] == [
        ("dog", None), ("dog:ear", "dog"), ("dog:leg", "dog"), ("dog:paw", "dog"), ("dog:muzzle", "dog"),
        ("dog:head", "dog"), ("dog:tail", "dog"),
        ("bicycle", None), ("bicycle:wheel", "bicycle"),
        ("car", None), ("car:wheel", "car"), ("car:wheel", "car"), ("car:license plate", "car"),
        ("dining table", None), ("person", None),
    ]  # fmt: skip
    assert found[0][1] == [5, 5, 30, 20] and found[1][1] == [6, 5, 2, 2]
    val = json.loads((tmp_path / "val.json").read_text())
    assert [image["file_name"] for image in val["images"]] == ["2008_000003.jpg"] and not val["annotations"]


def test_the_first_part_name_inside_a_raw_name_counts() -> None:
    rule = part_rule()
    assert len(rule.objects) == 20 and sum(map(len, rule.objects.values())) == 93
    assert (
        rule("person", "llleg") == "leg" and rule("cat", "rear") == "ear" and rule("bus", "bliplate") == "license plate"
    )
    assert rule("tv monitor", "screen") is None and rule("car", "backside") is None


def test_coco_keeps_its_ids_and_takes_an_image_once(tmp_path: Path) -> None:
    categories = [{"id": 1, "name": "person", "supercategory": "person"}, {"id": 90, "name": "toothbrush"}]
    polygon = [1.0, 1.0, 9.0, 1.0, 9.0, 9.0]
    crowd = {"size": [20, 30], "counts": [10, 50, 540]}

    def write(name: str, ids: list[int]) -> Path:
        content = {
            "images": [{"id": i, "file_name": f"{i:012d}.jpg", "height": 20, "width": 30} for i in ids],
            "categories": categories,
            "annotations": [
                {"id": 1000 + i, "image_id": i, "category_id": 90, "bbox": [1, 1, 8, 8], "area": 32.0, "iscrowd": 0,
                 "segmentation": [polygon]} for i in ids
            ] + [{"id": 2000, "image_id": ids[0], "category_id": 1, "bbox": [0, 0, 3, 20], "area": 50, "iscrowd": 1,
                  "segmentation": crowd}],
        }  # fmt: skip
        path = tmp_path / name
        path.write_text(json.dumps(content))
        return path

    sources = [f"{write('a.json', [7, 9])}=train2017", f"{write('b.json', [9, 3])}=val2017/"]
    assert coco.main([*sources, "--output", str(tmp_path), "--val-share", "0"]) == 0
    content = json.loads((tmp_path / "train.json").read_text())
    assert [(i["id"], i["file_name"]) for i in content["images"]] == [
        (7, "train2017/000000000007.jpg"), (9, "train2017/000000000009.jpg"), (3, "val2017/000000000003.jpg"),
    ]  # fmt: skip
    assert {c["id"]: c["level"] for c in content["categories"]} == {1: "object", 90: "object"}
    assert [a["id"] for a in content["annotations"]] == [1, 2, 3, 4]
    assert content["annotations"][0]["segmentation"] == [polygon]
    mask = rle.decode(content["annotations"][1]["segmentation"])
    assert content["annotations"][1]["iscrowd"] == 1 and mask.T.ravel()[10:60].all() and mask.sum() == 50

    assert coco.main([sources[0], "--val", sources[1], "--output", str(tmp_path)]) == 0
    ids = {
        name: [i["id"] for i in json.loads((tmp_path / f"{name}.json").read_text())["images"]]
        for name in ("train", "val")
    }
    assert ids == {"train": [7], "val": [9, 3]}, "an image of both is kept from training"


SQUARE = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 4, 4], "area": 16, "iscrowd": 0}


@pytest.mark.parametrize(
    "change",
    [
        {"segmentation": {"size": [8, 8], "counts": [5]}}, {"segmentation": {"size": [8, 8], "counts": "PPP"}},
        {"segmentation": {"size": [80, 8], "counts": [640]}}, {"bbox": [1, 2]}, {"bbox": None}, {"area": None},
        {"area": 10**400}, {"image_id": [1]}, {"category_id": 7}, {"iscrowd": "maybe"}, {"iscrowd": [0]},
    ],
)  # fmt: skip
def test_coco_names_an_annotation_that_is_damaged(
    change: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = {
        "images": [{"id": 1, "file_name": "1.png", "height": 8, "width": 8}],
        "categories": [{"id": 1, "name": "car"}], "annotations": [{**SQUARE, **change}],
    }  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert coco.main([f"{tmp_path / 'a.json'}=a", "--output", str(tmp_path), "--val-share", "0"]) == 2
    said = capsys.readouterr().err
    assert "a.json" in said and said.count("\n") == 1
    assert not (tmp_path / "train.json").exists()


@pytest.mark.parametrize(("written", "crowd"), [("0", 0), ("false", 0), (None, 0), ("1", 1), (True, 1)])
def test_coco_reads_crowds_as_they_are_meant(written: Any, crowd: int, tmp_path: Path) -> None:
    content = {
        "images": [{"id": 1, "file_name": "1.png", "height": 8, "width": 8}],
        "categories": [{"id": 1, "name": "car"}], "annotations": [{**SQUARE, "iscrowd": written}],
    }  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert coco.main([f"{tmp_path / 'a.json'}=a", "--output", str(tmp_path), "--val-share", "0"]) == 0
    (entry,) = json.loads((tmp_path / "train.json").read_text())["annotations"]
    assert entry["iscrowd"] == crowd


@pytest.mark.parametrize("count, share, expected", [(400, 0.1, 40), (18, 0.1, 2), (3, 0.1, 1), (1, 0.5, 0), (9, 0, 0)])
def test_size_of_validation(count: int, share: float, expected: int) -> None:
    assert num_validation(count, share) == expected


def test_what_can_not_be_split(tmp_path: Path) -> None:
    image = AnnotatedImage("a.jpg", 4, 4, (Region("dog", (0, 0, 1, 1), 1, None),))
    for images, share, message in (
        ([], 0.1, "no image was found"),
        ([image], 1.0, "val_share"),
        ([image], 0, "'dog' is not"),
    ):
        with pytest.raises(ValueError, match=message):
            write_splits(images, tmp_path, categories=[{"id": 1, "name": "cat"}], description="", val_share=share)
    assert not (tmp_path / "train.json").exists()


def test_wrong_folders_end_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for run in (car_parts.main, clothing.main, pascal_part.main):
        assert run([str(tmp_path / "nowhere"), "--output", str(tmp_path)]) == 2
        assert "nowhere" in capsys.readouterr().err
    assert coco.main(["instances.json", "--output", str(tmp_path)]) == 2
    assert "must be FILE=FOLDER" in capsys.readouterr().err


def test_damaged_files_are_named(tmp_path: Path) -> None:
    raw = raw_samples.clothing(tmp_path / "a", {"0001": [("hair", (0, 0, 9, 9))]})
    (raw / "annotations" / "pixel-level" / "0001.mat").write_bytes(b"no mat")
    with pytest.raises(ValueError, match=r"0001\.mat is not a readable"):
        list(read_clothing(raw, load_mapping("clothing")))
    (raw / "annotations" / "pixel-level" / "0001.mat").write_bytes((raw / "label_list.mat").read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"0001\.mat is not a readable"):
        list(read_clothing(raw, load_mapping("clothing")))
    pascal = raw_samples.pascal_part(tmp_path / "b", "x", [("spaceship", (0, 0, 9, 9), [])])
    with pytest.raises(ValueError, match="object 'spaceship'"):
        list(read_pascal_part(pascal, tmp_path / "b" / "JPEGImages", part_rule()))
    (tmp_path / "b" / "JPEGImages" / "x.jpg").unlink()
    with pytest.raises(ValueError, match="has no image"):
        list(read_pascal_part(pascal, tmp_path / "b" / "JPEGImages", part_rule()))


def test_real_car_parts(shared: Path) -> None:
    images = list(islice(read_car_parts(shared / "data/car_parts/trainingset", load_mapping("car_parts")), 20))
    assert [image.file_name for image in images[:2]] == ["JPEGImages/train1.jpg", "JPEGImages/train10.jpg"]
    assert all(len(image.objects) == 1 and image.objects[0].parts for image in images)
    assert sum(part.name == "car:wheel" for image in images for part in image.objects[0].parts) > 20  # pairs are split


def test_real_clothing(shared: Path) -> None:
    images = list(islice(read_clothing(shared / "data/ccp_clothing", load_mapping("clothing")), 2))
    assert [image.file_name for image in images] == ["photos/0001.jpg", "photos/0002.jpg"]
    for image in images:
        person = image.objects[0]
        assert person.name == "person" and {"person:hair"} < {part.name for part in person.parts}
        assert all(part.area <= person.area for part in person.parts)


def test_real_pascal_part(shared: Path) -> None:
    folder = shared / "data/pascal_part_18/examples"
    images = list(read_pascal_part(folder, folder, part_rule()))
    objects = [region for image in images for region in image.objects]
    assert (len(images), len(objects), sum(len(region.parts) for region in objects)) == (18, 53, 364)
    assert {region.name for region in objects if not region.parts} >= {"chair", "tv monitor", "boat", "dining table"}


@pytest.mark.parametrize(
    "segmentation",
    [
        None,
        3,
        "abc",
        {"size": [40, 60], "counts": [1]},
        [["a", "b"]],
        [[[1, 2], [3, 4]]],
        [3],
        [[True] * 6],
        [[10**400]],
    ],
)
@pytest.mark.parametrize("script", ["car_parts", "partimagenet"])
def test_segmentations_that_are_none_are_named(
    script: str, segmentation: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line and nothing written, or the instance alone is left out."""
    status = prepared_with(script, segmentation, tmp_path)
    said = capsys.readouterr().err
    if segmentation == [[10**400]]:
        assert status == 0
        return
    assert status == 2 and said.count("\n") == 1 and re.search(r"\.json: annotation \d+ has a ", said), said


@pytest.mark.parametrize("segmentation", [[[math.nan] * 6], [[math.inf, 1, 2, 3, 4, 5]], [[1e30] * 6], [], [[1, 2]]])
@pytest.mark.parametrize("script", ["car_parts", "partimagenet"])
def test_polygons_that_cannot_be_drawn_cost_their_instance_alone(
    script: str, segmentation: Any, tmp_path: Path
) -> None:
    assert prepared_with(script, segmentation, tmp_path) == 0


def prepared_with(script: str, segmentation: Any, folder: Path) -> int:
    """Exit status of a script whose first annotation has this segmentation."""
    if script == "car_parts":
        raw = raw_samples.car_parts(
            folder / "raw", {f"{name}.jpg": [("hood", [(10, 10, 10, 10), (30, 10, 10, 10)])] for name in "ab"}
        )
        file = raw / "annotations.json"
    else:
        write_partimagenet(folder)
        file = folder / "partimagenet" / "train.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["segmentation"] = segmentation
    file.write_text(json.dumps(content))
    if script == "car_parts":
        return car_parts.main([str(raw), "--output", str(folder / "out"), "--val-share", "0.5"])
    return partimagenet.main([str(folder / "partimagenet"), "--splits", "train"])
