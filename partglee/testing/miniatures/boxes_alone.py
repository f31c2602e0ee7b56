"""Objects365, Open Images and Visual Genome in miniature, which have boxes and no masks.

Objects365 v2: all 365 categories, file names with the folders of the archives, crowds. Open Images: CSV files of boxes
and verified labels, of eight objects and all 13 body parts. Visual Genome: `objects.json` and `image_data.json` as
published, and the LVIS-style file of phrases.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from partglee.basics.files import whole_file, write_json
from partglee.data.prepare.open_images import HUMAN_PARTS
from partglee.structures.vocabulary_files import FOLDER
from partglee.testing.miniatures.shapes import box_of, draw_scene, write_picture

OBJECTS365_KINDS = ("Person", "Car", "Dog", "Chair", "Bottle", "Wild Bird")


def write_objects365(root: Path, *, num_images: int = 4, seed: int = 0) -> None:
    """`Objects365v2/annotations/zhiyuan_objv2_{train,val}.json` of `num_images` each, images in two patches."""
    names = yaml.safe_load((FOLDER / "objects365.yaml").read_text(encoding="utf-8"))["objects"]
    ids = {name: number for number, name in enumerate(names, start=1)}
    for number, split in enumerate(("train", "val")):
        rng = np.random.default_rng((seed, 80 + number))
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for place in range(num_images):
            image_id = 420000 + 1000 * number + place
            version = 1 + place % 2
            name = f"patch{place % 2}/objects365_v{version}_{image_id:08d}.jpg"
            scene = draw_scene(rng, dict.fromkeys(OBJECTS365_KINDS, ()))
            write_picture(root / "Objects365v2" / split / name, scene.image)
            height, width = scene.image.shape[:2]
            images.append(
                {"height": height, "id": image_id, "license": 5, "width": width,
                 "file_name": f"images/v{version}/{name}", "url": ""}
            )  # fmt: skip
            for position, shape in enumerate(scene.objects):
                annotations.append(
                    {"id": len(annotations) + 1, "iscrowd": int(position == 2), "isfake": 0,
                     "area": int(shape.mask.sum()), "isreflected": 0, "bbox": box_of(shape.mask), "image_id": image_id,
                     "category_id": ids[shape.name]}
                )  # fmt: skip
        content = {
            "images": images, "annotations": annotations, "licenses": [],
            "categories": [{"name": name, "id": number} for name, number in ids.items()],
        }  # fmt: skip
        write_json(content, root / "Objects365v2" / "annotations" / f"zhiyuan_objv2_{split}.json")


OPEN_IMAGES_KINDS = {
    "Man": ("Human head", "Human arm", "Human leg"), "Woman": ("Human face", "Human hand"), "Car": (), "Dog": (),
    "Tree": (),
}  # fmt: skip
_NAMES = (*OPEN_IMAGES_KINDS, "Person", "Boy", "Girl", *HUMAN_PARTS)
CODES = {name: f"/m/0{number:04d}" for number, name in enumerate(_NAMES)}
_BOX = (
    "ImageID", "Source", "LabelName", "Confidence", "XMin", "XMax", "YMin", "YMax", "IsOccluded", "IsTruncated",
    "IsGroupOf", "IsDepiction", "IsInside",
)  # fmt: skip


def write_openimages(root: Path, *, num_images: int = 4, seed: int = 0) -> None:
    """`openimages/` with class descriptions, boxes and verified labels of train and validation, and their images."""
    folder = root / "openimages"
    _write_csv(folder / "class-descriptions-boxable.csv", [(code, name) for name, code in CODES.items()])
    for number, (split, prefix) in enumerate((("train", "oidv6-train"), ("validation", "validation"))):
        rng = np.random.default_rng((seed, 90 + number))
        boxes: list[tuple[Any, ...]] = [_BOX]
        labels: list[tuple[Any, ...]] = [("ImageID", "Source", "LabelName", "Confidence")]
        for _ in range(num_images):
            name = f"{int(rng.integers(2**63, 2**64, dtype=np.uint64)):016x}"
            scene = draw_scene(rng, OPEN_IMAGES_KINDS)
            height, width = scene.image.shape[:2]
            write_picture(folder / split / f"{name}.jpg", scene.image)
            present = set()
            for place, shape in enumerate(scene.objects):
                for kind, mask in ((shape.name, shape.mask), *shape.parts):
                    x, y, w, h = box_of(mask)
                    sides = (x / width, (x + w) / width, y / height, (y + h) / height)
                    group = int(place == 2 and kind == shape.name)
                    boxes.append((name, "xclick", CODES[kind], 1, *(f"{s:.6f}" for s in sides), 0, 0, group, 0, 0))
                    present.add(kind)
            labels += [(name, "verification", CODES[kind], 1) for kind in sorted(present)]
            labels += [(name, "verification", CODES[kind], 0) for kind in ("Car", "Human beard") if kind not in present]
        _write_csv(folder / f"{prefix}-annotations-bbox.csv", boxes)
        _write_csv(folder / f"{split}-annotations-human-imagelabels-boxable.csv", labels)


def _write_csv(path: Path, rows: Iterable[tuple[Any, ...]]) -> None:
    with whole_file(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


PHRASES = {
    "man": ("head", "left arm", "man's leg", "shirt"),
    "red car": ("front wheel", "car window", "license plate"),
    "giraffe": ("neck", "legs", "ears"),
    "building": ("windows", "door", "sign on the building"),
    "tree": (),
}


def write_visual_genome(root: Path, *, num_images: int = 4, seed: int = 0) -> None:
    """`visual_genome/{objects,image_data}.json`, `visual_genome/annotations/train_from_objects.json` and images.

    Both hold the same boxes, `num_images` images of `visual_genome/images/`.
    """
    rng = np.random.default_rng((seed, 70))
    folder = root / "visual_genome"
    objects: list[dict[str, Any]] = []
    data: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id in range(1, num_images + 1):
        scene = draw_scene(rng, PHRASES)
        height, width = scene.image.shape[:2]
        write_picture(folder / "images" / f"{image_id}.jpg", scene.image)
        url = f"https://cs.stanford.edu/people/rak248/VG_100K_{1 + image_id % 2}/{image_id}.jpg"
        data.append(
            {"width": width, "url": url, "height": height, "image_id": image_id,
             "coco_id": 500 + image_id if image_id % 2 else None, "flickr_id": None}
        )  # fmt: skip
        images.append({"id": image_id, "file_name": f"{image_id}.jpg", "height": height, "width": width,
                       "neg_category_ids": [], "not_exhaustive_category_ids": []})  # fmt: skip
        things = []
        named = [pair for shape in scene.objects for pair in ((shape.name, shape.mask), *shape.parts)]
        for name, mask in named:
            x, y, w, h = (int(side) for side in box_of(mask))
            number = len(annotations) + 1
            things.append({"synsets": [], "h": h, "object_id": 1000 + number, "merged_object_ids": [],
                           "names": [name], "w": w, "y": y, "x": x})  # fmt: skip
            annotations.append({"id": number, "image_id": image_id, "category_id": 1, "bbox": [x, y, w, h],
                                "area": w * h, "iscrowd": 0, "object_name": name})  # fmt: skip
        objects.append({"image_id": image_id, "objects": things, "image_url": url})
    for name, entries in (("objects", objects), ("image_data", data)):
        with whole_file(folder / f"{name}.json") as beside:
            beside.write_text(json.dumps(entries))
    categories = [{"id": 1, "name": "object"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_json(content, folder / "annotations" / "train_from_objects.json")
