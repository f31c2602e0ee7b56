"""Annotation files with everything that real ones get wrong, and the cache."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest
from coco_files import CATEGORIES, annotation, read, square, two_images, write
from pycocotools import mask as rle

from partglee.data.annotations import columns_cache
from partglee.data.annotations.columns import read_columns
from partglee.data.annotations.columns_cache import load_columns
from partglee.data.segmentation import decode

IMAGE = {"id": 1, "file_name": "a.png", "height": 60, "width": 100}


def content(*annotations: dict, **more: object) -> dict:
    return {"images": [IMAGE], "categories": CATEGORIES, "annotations": list(annotations), **more}


def test_degenerate_polygons(tmp_path: Path) -> None:
    records = read(
        tmp_path,
        content(
            annotation(1, 1, (10, 10, 20, 20), segmentation=[[1, 1, 2, 2], *square(10, 10, 20, 20)]),
            annotation(2, 1, (10, 10, 20, 20), segmentation=[[10, 10, 15, 15, 20, 20]]),
            annotation(3, 1, (10, 10, 20, 20), segmentation=[[10, 10, 15, 15, 20]]),
            annotation(4, 1, (10, 10, 20, 20), segmentation=[]),
            annotation(5, 1, (10, 10, 20, 20), segmentation=[[float("nan"), 10, 15, 15, 20, 10]]),
        ),
    )
    shapes = [instance.segmentation for instance in records[0].objects]
    assert shapes == [((10.0, 10.0, 20.0, 10.0, 20.0, 20.0, 10.0, 20.0),), None, None, None, None]
    assert records.issues == {
        "polygons of fewer than three points (left out)": 2,
        "polygons without area or with bad numbers (left out)": 2,
    }


def test_thin_polygons_far_from_the_origin_have_area(tmp_path: Path) -> None:
    thin = [[5000.0, 5000.0, 5000.0, 5000.5, 5000.5, 5000.5]]
    image = {**IMAGE, "height": 6000, "width": 6000}
    records = read(
        tmp_path, {**content(annotation(1, 1, (5000, 5000, 5001, 5001), segmentation=thin)), "images": [image]}
    )
    assert records[0].objects[0].segmentation is not None


def test_boxes_of_no_width_come_from_the_mask(tmp_path: Path) -> None:
    run = rle.encode(np.asfortranarray(np.pad(np.ones((3, 1), np.uint8), ((5, 52), (7, 92)))))
    run = {"size": run["size"], "counts": run["counts"].decode()}
    records = read(
        tmp_path,
        content(
            annotation(1, 1, (10, 10, 20, 30), bbox=[10, 10, 0, 20]),
            annotation(2, 1, (10, 10, 20, 30), bbox=[10, 10, -5, 20]),
            {k: v for k, v in annotation(3, 1, (10, 10, 20, 30)).items() if k != "bbox"},
            annotation(4, 1, (0, 0, 1, 1), bbox=[7, 5, 0, 2], segmentation=run),
            annotation(5, 1, (0, 0, 1, 1), bbox=[7, 5, 0, 2], segmentation=[]),
            annotation(6, 1, (0, 0, 1, 1), bbox=[7, float("nan"), 1, 2], segmentation=None),
        ),
    )
    boxes = [instance.box for instance in records[0].objects]
    assert boxes == [(10, 10, 20, 30)] * 3 + [(7, 5, 8, 8)]
    assert records.issues["boxes missing or of no width (taken from the mask)"] == 4
    assert records.issues["annotations without box and mask (left out)"] == 2


def test_run_lengths_compressed_and_not(tmp_path: Path) -> None:
    mask = np.zeros((60, 100), np.uint8)
    mask[5:9, 7:20] = 1
    packed = rle.encode(np.asfortranarray(mask))
    plain = {"size": [60, 100], "counts": [7 * 60 + 5, 4, *([56, 4] * 12), 60 * 100 - 7 * 60 - 5 - 13 * 4 - 12 * 56]}
    packed = {"size": packed["size"], "counts": packed["counts"].decode()}
    records = read(
        tmp_path, content(*(annotation(i, 1, (7, 5, 20, 9), segmentation=s) for i, s in ((1, packed), (2, plain))))
    )
    for instance in records[0].objects:
        assert (decode(instance.segmentation, 60, 100) == mask).all()


def test_ids(tmp_path: Path) -> None:
    """0 names nobody; a number given twice means the one in the same image; links never leave the image."""
    records = read(
        tmp_path,
        {
            "images": [IMAGE, {**IMAGE, "id": 2, "file_name": "b.png"}],
            "categories": CATEGORIES,
            "annotations": [
                annotation(0, 1, (0, 0, 50, 50)),
                annotation(5, 2, (0, 0, 50, 50)),
                annotation(6, 9, (0, 0, 5, 5), parent_id=0),
                annotation(7, 9, (0, 0, 5, 5), parent_id=5),
                annotation(8, 9, (0, 0, 5, 5), parent_id=99),
                annotation(9, 9, (0, 0, 5, 5), parent_id=None),
                annotation(10, 9, (0, 0, 5, 5)),
                annotation(1, 1, (0, 0, 50, 50), image=2),
                annotation(5, 1, (0, 0, 50, 50), image=2),
                annotation(11, 9, (0, 0, 5, 5), image=2, parent_id=5),
                annotation(12, 9, (0, 0, 5, 5), image=2, parent_id=7),
            ],
        },
    )
    assert [part.parent for part in records[0].parts] == [-1, 1, -1, -1, -1]
    assert [part.parent for part in records[1].parts] == [1, -1]
    assert [part.annotation_id for part in records[1].parts] == [11, 12]
    assert records.issues == {
        "annotations with id 0 (kept; links to 0 mean unknown)": 1,
        "annotation ids given twice (kept; links go to the first in the same image)": 1,
        "parent links to no annotation of the same image (read as unknown)": 2,
    }


def test_unknown_images_and_categories_are_left_out(tmp_path: Path) -> None:
    records = read(
        tmp_path,
        content(
            annotation(1, 1, (0, 0, 9, 9)), annotation(2, 1, (0, 0, 9, 9), image=5), annotation(3, 4, (0, 0, 9, 9))
        ),
    )
    assert [instance.annotation_id for instance in records[0].objects] == [1]
    assert records.issues == {
        "annotations of an unknown image (left out)": 1,
        "annotations of an unknown category (left out)": 1,
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": [IMAGE, IMAGE]}, "image id 1 is given twice"),
        ({"categories": [CATEGORIES[0], CATEGORIES[0]]}, "category id 1 is given twice"),
        ({"annotations": [annotation(1, 5, (0, 0, 9, 9))]}, "none of its 1 annotations"),
        ({"annotations": [{"id": 1, "bbox": [0, 0, 1, 1]}]}, "in annotations: .*image_id"),
        ({"annotations": [annotation(1, "car", (0, 0, 9, 9))]}, "in annotations: .*integer"),  # type: ignore[arg-type]
        ({"images": [{"id": 1}]}, "in images: .*coco_url"),
        ({"categories": [{"id": 1, "name": 5}]}, "in categories.*'name': 5.*name must be text"),
        ({"categories": [{"id": 1, "name": "wheel", "owners": "car"}]}, "in categories.*owners.*a list of names"),
        ({"categories": [{"id": 1, "name": "wheel", "owners": [1]}]}, "in categories.*owners.*a list of names"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"(?s)annotations.json.*{message}"):
        read(tmp_path, {**two_images(), **change})


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_missing_list(tmp_path: Path, key: str) -> None:
    left = {k: v for k, v in two_images().items() if k != key}
    (tmp_path / "annotations.json").write_text(json.dumps(left))
    with pytest.raises(ValueError, match=f"has no {key}"):
        read_columns(tmp_path / "annotations.json")


def test_file_without_annotations(tmp_path: Path) -> None:
    records = read(tmp_path, content())
    assert len(records) == 1 and records[0].objects == () and records.labels(0) == (frozenset(), frozenset())


# -- cache -----------------------------------------------------------------------------------------------------------


def columns_equal(a: object, b: object) -> bool:
    return all(
        np.array_equal(value, getattr(b, name)) if isinstance(value, np.ndarray) else value == getattr(b, name)
        for name, value in vars(a).items()
    )


def parses(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Grows with every time that a file is parsed."""
    calls: list[Path] = []

    def count(path: Path) -> object:
        calls.append(path)
        return read_columns(path)

    monkeypatch.setattr(columns_cache, "read_columns", count)
    return calls


def test_cache_holds_the_same_and_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, two_images(), images=False)
    calls = parses(monkeypatch)
    first, second = load_columns(path), load_columns(path)
    assert len(calls) == 1
    assert columns_equal(first, read_columns(path)) and columns_equal(second, first)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".annotations.json.columns", "annotations.json"]


def test_stale_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path, two_images(), images=False)
    calls = parses(monkeypatch)
    load_columns(path)
    write(tmp_path, content(annotation(1, 1, (0, 0, 9, 9))), images=False)
    os.utime(path, ns=(1, 1))
    with caplog.at_level(logging.INFO):
        assert len(load_columns(path)) == 1
    assert "another version of the file" in caplog.text
    os.utime(path, ns=(2, 2))  # the same bytes, written again
    load_columns(path)
    monkeypatch.setattr(columns_cache, "VERSION", columns_cache.VERSION + 1)
    load_columns(path)
    load_columns(path)
    assert len(calls) == 4


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "garbage"])
def test_damaged_cache(
    tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, two_images(), images=False)
    load_columns(path)
    cache = tmp_path / ".annotations.json.columns"
    data = cache.read_bytes()
    flipped = data[:-5] + bytes([data[-5] ^ 255]) + data[-4:]
    cache.unlink()  # the mapped file of another reader stays as it is
    cache.write_bytes({"cut": data[:-9], "flip": flipped, "empty": b"", "garbage": b"x" * 400}[damage])
    calls = parses(monkeypatch)
    with caplog.at_level(logging.INFO):
        assert columns_equal(load_columns(path), read_columns(path))
    assert len(calls) == 1 and "is not used" in caplog.text
    load_columns(path)
    assert len(calls) == 1


def test_cache_of_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, two_images(), images=False)
    home = tmp_path / "home"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    beside = tmp_path / ".annotations.json.columns"
    beside.mkdir()  # also root cannot replace a folder by a file
    calls = parses(monkeypatch)
    load_columns(path)
    load_columns(path)
    assert len(calls) == 1 and len(list((home / "partglee").iterdir())) == 1
    left = sorted(p.name for p in tmp_path.iterdir())
    assert left == [".annotations.json.columns", "annotations.json", "home"], "nothing half-written stays"


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="PARTGLEE_DATASETS"):
        load_columns(tmp_path / "missing.json")
