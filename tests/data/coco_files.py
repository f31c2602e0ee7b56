"""Small hierarchical COCO files, and images to go with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from partglee.data import DatasetSpec
from partglee.data.annotations.coco_json import CocoRecords, read_coco


def square(x0: float, y0: float, x1: float, y1: float) -> list[list[float]]:
    """A box as polygons."""
    return [[x0, y0, x1, y0, x1, y1, x0, y1]]


def annotation(key: int, category: int, box: tuple[float, float, float, float], image: int = 1, **more: Any) -> dict:
    """A square annotation, box xyxy."""
    x0, y0, x1, y1 = box
    entry = {"id": key, "image_id": image, "category_id": category, "bbox": [x0, y0, x1 - x0, y1 - y0]}
    return {**entry, "segmentation": square(*box), **more}


CATEGORIES = [
    {"id": 1, "name": "car", "level": "object"},
    {"id": 2, "name": "dog", "level": "object"},
    {"id": 7, "name": "car:left mirror"},
    {"id": 8, "name": "car:right mirror"},
    {"id": 9, "name": "car:wheel"},
]


def two_images() -> dict:
    """The example of docs/datasets.md: a car with a left mirror and a wheel; a dog without parts."""
    return {
        "images": [
            {"id": 1, "file_name": "car.png", "height": 60, "width": 100},
            {"id": 2, "file_name": "dog.png", "height": 50, "width": 40},
        ],
        "categories": CATEGORIES,
        "annotations": [
            annotation(11, 9, (30, 40, 40, 50), parent_id=13),
            annotation(12, 7, (20, 20, 24, 26), parent_id=13),
            annotation(13, 1, (20, 10, 80, 50)),
            annotation(14, 2, (5, 5, 35, 45), image=2),
        ],
    }


def write(folder: Path, content: dict, *, images: bool = True) -> Path:
    """Write the annotations, and for each image a picture whose colours tell the place."""
    path = folder / "annotations.json"
    path.write_text(json.dumps(content))
    for entry in content["images"] if images else ():
        rows, columns = np.mgrid[: entry["height"], : entry["width"]]
        pixels = np.stack([columns, rows, np.full_like(rows, entry["id"])], axis=2).astype(np.uint8)
        Image.fromarray(pixels).save(folder / entry["file_name"])
    return path


def spec_of(folder: Path, **fields: Any) -> DatasetSpec:
    """The data set in a folder that `write` filled."""
    return DatasetSpec(
        **{"name": "test", "annotations": str(folder / "annotations.json"), "images": str(folder), **fields},
        reader=read_coco,
    )


def read(folder: Path, content: dict, **fields: Any) -> CocoRecords:
    """Write the annotations alone, and read them."""
    write(folder, content, images=False)
    return read_coco(spec_of(folder, **fields))
