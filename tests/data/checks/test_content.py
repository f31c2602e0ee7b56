"""Every rule of `partglee data check` finds what it is for, and nothing in a good file."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle

from partglee.data.checks.content import EXAMPLES, validate
from partglee.data.checks.masks import _run_lengths
from partglee.data.segmentation import run_list

Change = Callable[[dict[str, Any]], Any]


def good() -> dict[str, Any]:
    """A car with a wheel and a bare person in one image, a second image without annotations."""
    mask = np.zeros((20, 30), np.uint8)
    mask[2:12, 3:23] = 1
    encoded = rle.encode(np.asfortranarray(mask))
    return {
        "images": [
            {"id": 1, "file_name": "a.png", "height": 20, "width": 30},
            {"id": 2, "file_name": "b.png", "height": 20, "width": 30},
        ],
        "categories": [
            {"id": 1, "name": "car", "level": "object"},
            {"id": 2, "name": "person", "level": "object"},
            {"id": 3, "name": "car:wheel", "level": "part"},
            {"id": 4, "name": "person:arm", "level": "part"},
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [3, 2, 20, 10],
             "segmentation": {"size": [20, 30], "counts": encoded["counts"].decode()}},
            {"id": 2, "image_id": 1, "category_id": 3, "bbox": [4, 8, 4, 4], "parent_id": 1,
             "segmentation": [[4.0, 8.0, 8.0, 8.0, 8.0, 12.0, 4.0, 12.0]]},
            {"id": 3, "image_id": 1, "category_id": 2, "bbox": [24, 2, 5, 10]},
        ],
    }  # fmt: skip


def test_a_good_file_has_no_findings() -> None:
    report = validate(good())
    assert not report.errors and not report.warnings
    assert report.summary == {
        "images": 2, "without annotation": 1, "object names": 2, "part names": 2, "names unused": 1,
        "usable objects": 2, "usable parts": 1, "parts with a parent": 1,
    }  # fmt: skip
    assert report.text().endswith("0 errors, 0 warnings")


def annotation(number: int, **values: Any) -> Change:
    return lambda content: content["annotations"][number].update(values)


def wheel(**values: Any) -> Change:
    return annotation(1, **values)


def circle(length: int) -> list[dict[str, Any]]:
    """Wheels of which each is a part of the next one."""
    ids = [10 + place for place in range(length)]
    return [
        {"id": key, "image_id": 1, "category_id": 3, "bbox": [4, 8, 4, 4], "parent_id": 10 + (key - 9) % length}
        for key in ids
    ]


def tail(length: int) -> dict[str, Any]:
    """A wheel of a wheel in the circle, which is not in it itself."""
    return {"id": 10 + length, "image_id": 1, "category_id": 3, "bbox": [4, 8, 4, 4], "parent_id": 10}


ERRORS: list[tuple[str, Change]] = [
    ("image without file_name", lambda c: c["images"][1].pop("file_name")),
    ("image id given twice", lambda c: c["images"][1].update(id=1)),
    ("image without height and width in pixels", lambda c: c["images"][1].update(height=0)),
    ("category without name", lambda c: c["categories"][3].pop("name")),
    ("category id given twice", lambda c: c["categories"][3].update(id=1)),
    ("category name given twice", lambda c: c["categories"][3].update(name="car")),
    ("`level` of a category that is not object or part", lambda c: c["categories"][1].update(level="thing")),
    ("annotation without bbox", lambda c: c["annotations"][2].pop("bbox")),
    ("annotation without id, image_id, category_id, bbox", lambda c: c["annotations"].append({})),
    ("annotation without id, image_id, category_id, bbox", lambda c: c["annotations"].append(None)),
    ("annotation with an id that is no whole number", annotation(2, id=[3])),
    ("annotation with an id that is no whole number", annotation(2, id="3")),
    ("annotation with an id that is no whole number", annotation(2, image_id="1")),
    ("annotation with an id that has more than 63 bits", annotation(2, id=2**63)),
    ("annotation with an id that has more than 63 bits", annotation(2, image_id=10**5000)),
    ("category with an id that has more than 63 bits", lambda c: c["categories"][3].update(id=-(2**64))),
    ("parent that is no usable annotation", wheel(parent_id=10**5000)),
    ("category with an id that is no whole number", lambda c: c["categories"][3].update(id=4.5)),
    ("category with a name that is no text", lambda c: c["categories"][3].update(name=4)),
    ("`owners` of a category that is no list of names", lambda c: c["categories"][3].update(owners="person")),
    ("image with an id that is no whole number", lambda c: c["images"][1].update(id="2")),
    ("image with a file_name that is no text", lambda c: c["images"][1].update(file_name=2)),
    ("annotation id given twice", annotation(2, id=1)),
    ("annotation of an unknown image", annotation(2, image_id=9)),
    ("annotation of an unknown category", annotation(2, category_id=9)),
    ("box that is not four numbers x, y, width, height", annotation(2, bbox=[1, 2, 3])),
    ("box that is not four numbers x, y, width, height", annotation(2, bbox=[1, 2, 3, float("nan")])),
    ("box of no size", annotation(2, bbox=[1, 2, 0, 3])),
    ("box outside of the image", annotation(2, bbox=[30, 2, 3, 3])),
    ("box outside of the image", annotation(2, bbox=[-5, 2, 5, 3])),
    ("segmentation without a usable polygon", wheel(segmentation=[[1.0, 1.0, 2.0, 2.0]])),
    ("segmentation without a usable polygon", wheel(segmentation=[[1.0, 1.0, 2.0, 2.0, 3.0, 3.0]])),
    ("segmentation without a usable polygon", wheel(segmentation=[[1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0]])),
    ("segmentation without a usable polygon", wheel(segmentation=[1.0, 1.0, 2.0, 2.0, 3.0, 3.0])),
    ("segmentation that is neither polygons nor run lengths", wheel(segmentation="text")),
    ("run lengths of another size than the image", wheel(segmentation={"size": [30, 20], "counts": [600]})),
    ("run lengths without size or counts", wheel(segmentation={"size": [20, 30]})),
    ("run lengths that are broken", wheel(segmentation={"size": [20, 30], "counts": [10, 20]})),
    ("run lengths that are broken", wheel(segmentation={"size": [20, 30], "counts": "not é code"})),
    ("run lengths that are broken", wheel(segmentation={"size": [20, 30], "counts": [None, 600]})),
    ("run lengths that are broken", wheel(segmentation={"size": ["20", 30], "counts": [600]})),
    ("run lengths that are broken", wheel(segmentation={"size": [20, 30], "counts": ""})),
    ("empty mask", wheel(segmentation={"size": [20, 30], "counts": [600]})),
    ("object with a parent", annotation(2, parent_id=1)),
    ("parent that is no usable annotation", wheel(parent_id=77)),
    ("annotations that are each other's parents", lambda c: c["annotations"].extend(circle(3))),
    ("annotations that are each other's parents", lambda c: c["annotations"].extend(circle(500))),
    ("annotations that are each other's parents", lambda c: c["annotations"].extend([*circle(4), tail(4)])),
    ("file without images", lambda c: c.update(images=[], annotations=[])),
    ("`iscrowd` that is neither 0 nor 1", annotation(2, iscrowd="maybe")),
    ("part that is its own parent", wheel(parent_id=2)),
    ("part that is its own parent", wheel(parent_id=None, obj_ann_id=2)),
    ("parent in another image", annotation(0, image_id=2)),
    ("parent of another name than the part says", wheel(parent_id=3)),
    ("part wholly outside of its parent", wheel(bbox=[24, 14, 4, 4], segmentation=None)),
]
WARNINGS: list[tuple[str, Change]] = [
    ("annotation id 0, which COCO tools take for no match", annotation(2, id=0)),
    ("`iscrowd` that is text, which COCO tools take for a crowd", annotation(2, iscrowd="0")),
    ("file without annotations, so nothing can be learned from it or scored", lambda c: c.update(annotations=[])),
    ("box that reaches beyond the image", annotation(2, bbox=[24, 2, 9, 10])),
    ("box that does not fit its mask", annotation(0, bbox=[3, 2, 6, 10])),
    ("degenerate polygon beside usable ones", lambda c: c["annotations"][1]["segmentation"].append([1.0, 2.0])),
    ("part mostly outside of its parent", wheel(bbox=[4, 11, 4, 4], segmentation=None)),
    ("part category whose name is not object:part", lambda c: c["categories"][3].update(name="arm")),
    ("part category of an object that is no category", lambda c: c["categories"][3].update(name="dog:arm")),
]


@pytest.mark.parametrize("rule, change", ERRORS)
def test_errors(rule: str, change: Change) -> None:
    content = good()
    change(content)
    report = validate(content)
    assert report.errors[rule] == 1, report.text()
    assert f"error: 1 x {rule}: {report.examples[rule][0]}" in report.text()


@pytest.mark.parametrize("rule, change", WARNINGS)
def test_warnings(rule: str, change: Change) -> None:
    content = good()
    change(content)
    report = validate(content)
    assert report.warnings == {rule: 1} and not report.errors, report.text()


@pytest.mark.parametrize("content", [[], {"images": []}, {"images": [], "annotations": {}, "categories": []}])
def test_files_of_another_kind(content: Any) -> None:
    report = validate(content)
    assert report.errors.total() == 1 and "are not all there" in report.text()


def test_first_examples_alone_are_kept() -> None:
    content = good()
    content["annotations"] = [{**content["annotations"][2], "id": n, "image_id": 5} for n in range(1, 11)]
    text = validate(content).text()
    assert "error: 10 x annotation of an unknown image" in text and f"... {10 - EXAMPLES} more" in text


@pytest.mark.parametrize(("link", "known"), [(0, 0), (None, 0), (1, 1)])
def test_a_link_to_0_is_no_parent_and_pacos_link_is_one(link: int | None, known: int) -> None:
    for key in ("parent_id", "obj_ann_id"):
        content = good()
        entry = content["annotations"][1]
        entry["parent_id"] = None
        entry[key] = link
        report = validate(content)
        assert not report.errors and not report.warnings
        assert report.summary["parts with a parent"] == known


def test_image_files(tmp_path: Path) -> None:
    content = good()
    content["images"] += [{"id": n, "file_name": f"{n}.jpg", "height": 20, "width": 30} for n in (3, 4, 5)]
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    Image.new("RGB", (30, 21)).save(tmp_path / "b.png")
    (tmp_path / "3.jpg").write_text("no picture")
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side: stored 20 x 30, upright 30 x 20
    Image.new("RGB", (20, 30)).save(tmp_path / "4.jpg", exif=exif)
    report = validate(content, images=tmp_path)
    assert report.errors == {
        "image size that differs from the file": 1, "image file that cannot be read": 1,
        "image file that is missing": 1,
    }  # fmt: skip
    assert "image 2" in report.examples["image size that differs from the file"][0]
    assert not validate(content).errors  # files are looked at only when a folder is given


def test_lvis_names_files_by_their_address(tmp_path: Path) -> None:
    content = good()
    for image in content["images"]:
        image["coco_url"] = f"http://images.cocodataset.org/val2017/{image.pop('file_name')}"
        (tmp_path / "val2017").mkdir(exist_ok=True)
        Image.new("RGB", (30, 20)).save(tmp_path / "val2017" / image["coco_url"].split("/")[-1])
    assert not validate(content, images=tmp_path).errors


def test_the_content_is_not_changed() -> None:
    content = good()
    before = copy.deepcopy(content)
    validate(content)
    assert content == before


def test_run_lengths_against_pycocotools() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        height, width = (int(side) for side in rng.integers(1, 40, 2))
        mask = (rng.random((height, width)) < rng.choice([0.02, 0.3, 0.97])).astype(np.uint8)
        mask[rng.integers(height), rng.integers(width)] = 1
        encoded = rle.encode(np.asfortranarray(mask))
        counts = run_list(encoded["counts"].decode())
        assert (np.repeat(np.arange(len(counts)) % 2, counts) == mask.T.ravel()).all()
        segmentation = {"size": [height, width], "counts": encoded["counts"].decode()}
        assert _run_lengths(segmentation, (height, width)) == ([], rle.toBbox(encoded).tolist())
        segmentation["counts"] = counts.tolist()
        assert _run_lengths(segmentation, (height, width)) == ([], rle.toBbox(encoded).tolist())


def test_an_image_without_a_name_is_one_in_memory_unless_files_are_looked_for(tmp_path: Path) -> None:
    content = good()
    content["images"][0]["file_name"] = ""
    assert "image without a file name" not in validate(content).errors
    assert "image without a file name" in validate(content, images=tmp_path).errors
