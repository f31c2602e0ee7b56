"""Small data sets in the raw forms that their authors publish."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

from partglee.data.prepare.mapping import load_mapping

Box = tuple[int, int, int, int]  # xywh


def rectangle(box: Box) -> list[float]:
    x, y, w, h = (float(value) for value in box)
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def filled(size: tuple[int, int], box: Box) -> NDArray[np.uint8]:
    mask = np.zeros(size, np.uint8)
    mask[box[1] : box[1] + box[3], box[0] : box[0] + box[2]] = 1
    return mask


def picture(file: Path, size: tuple[int, int]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(file)


def car_parts(root: Path, images: dict[str, list[tuple[str, list[Box]]]], size: tuple[int, int] = (40, 60)) -> Path:
    """{file name: [(raw label, rectangles)]} -> a folder as Car-Parts has it."""
    labels = ["_background_", *sorted({label for parts in images.values() for label, _ in parts})]
    annotations = []
    for image_id, (name, parts) in enumerate(images.items(), start=1):
        picture(root / "JPEGImages" / name, size)
        for label, boxes in parts:
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image_id, "category_id": labels.index(label) + 1,
                 "segmentation": [rectangle(box) for box in boxes], "bbox": list(boxes[0]), "area": 1,
                 "iscrowd": False, "isbbox": False, "color": "#e45779", "metadata": {}}
            )  # fmt: skip
    content = {
        "images": [
            {"id": number, "file_name": name, "path": f"JPEGImages/{name}", "height": size[0], "width": size[1]}
            for number, name in enumerate(images, start=1)
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(labels, start=1)],
        "annotations": annotations,
    }
    (root / "annotations.json").write_text(json.dumps(content))
    return root


def clothing(root: Path, maps: dict[str, list[tuple[str, Box]]], size: tuple[int, int] = (80, 60)) -> Path:
    """{photo: [(raw label, rectangle)]}, later rectangles on top -> a folder as Clothing Co-Parsing has it."""
    mapping = load_mapping("clothing")
    labels = sorted([*mapping.names, *(name for name in mapping.unlabelled if name != "null")])
    labels = ["null", *labels]
    (root / "annotations" / "pixel-level").mkdir(parents=True)
    savemat(root / "label_list.mat", {"label_list": np.array([labels], dtype=object)})
    for name, boxes in maps.items():
        grid = np.zeros(size, np.uint8)
        for label, box in boxes:
            grid[filled(size, box) == 1] = labels.index(label)
        savemat(root / "annotations" / "pixel-level" / f"{name}.mat", {"groundtruth": grid})
        picture(root / "photos" / f"{name}.jpg", size)
    return root


def pascal_part(
    root: Path, name: str, objects: list[tuple[str, Box, list[tuple[str, Box]]]], size: tuple[int, int] = (40, 60)
) -> Path:
    """Objects with their parts as rectangles -> `root/Annotations_Part/NAME.mat` and its image."""
    part_type = np.dtype([("part_name", "O"), ("mask", "O")])
    object_type = np.dtype([("class", "O"), ("class_ind", "O"), ("mask", "O"), ("parts", "O")])
    entries = np.zeros((1, len(objects)), dtype=object_type)
    for column, (kind, box, parts) in enumerate(objects):
        listed = np.zeros((1, len(parts)), dtype=part_type)
        for place, (part, part_box) in enumerate(parts):
            listed[0, place] = (part, filled(size, part_box))
        entries[0, column] = (kind, float(column), filled(size, box), listed if parts else np.zeros((0, 0)))
    anno = np.zeros((1, 1), dtype=np.dtype([("imname", "O"), ("objects", "O")]))
    anno[0, 0] = (name, entries)
    folder = root / "Annotations_Part"
    folder.mkdir(parents=True, exist_ok=True)
    savemat(folder / f"{name}.mat", {"anno": anno})
    picture(root / "JPEGImages" / f"{name}.jpg", size)
    return folder
