"""COCO 2017 instances and LVIS v1, which lies on COCO's images, in miniature.

COCO: all 80 categories with the gaps of their ids, a crowd as a list of run lengths. LVIS: all 1,203 categories, images
named by their address, names looked for and not found.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pycocotools import mask as rle  # type: ignore[import-untyped, unused-ignore]

from partglee.basics.files import write_json
from partglee.structures.vocabulary_files import FOLDER
from partglee.testing.miniatures.shapes import Shape, box_of, draw_scene, polygons_of, write_picture

KINDS = ("person", "car", "dog", "chair", "bottle", "sports ball")
FIRST_ID = 5000


def write_coco(root: Path, *, num_images: int = 4, seed: int = 0) -> None:
    """`coco/annotations/instances_{train,val}2017.json` of `num_images` each; the last image has no annotation."""
    for number, split in enumerate(("train", "val")):
        rng = np.random.default_rng((seed, 20 + number))
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for image_id in range(FIRST_ID + 1000 * number + 1, FIRST_ID + 1000 * number + 1 + num_images):
            scene = draw_scene(rng, dict.fromkeys(KINDS, ()))
            folder, name = f"{split}2017", f"{image_id:012d}.jpg"
            write_picture(root / "coco" / folder / name, scene.image)
            images.append(image_entry(image_id, folder, name, scene.image.shape))
            if len(images) < num_images or num_images == 1:
                for shape in scene.objects:
                    annotations.append(annotation_entry(len(annotations) + 1, image_id, coco_ids()[shape.name], shape))
                annotations.append(_crowd(len(annotations) + 1, image_id, scene.objects[0]))
        content = {
            "info": {"description": f"miniature of COCO {split}2017"}, "licenses": [{"id": 1, "name": "", "url": ""}],
            "images": images, "annotations": annotations, "categories": coco_categories(),
        }  # fmt: skip
        write_json(content, root / "coco" / "annotations" / f"instances_{split}2017.json")


def image_entry(image_id: int, folder: str, name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """As in COCO's files."""
    return {
        "id": image_id, "file_name": name, "height": shape[0], "width": shape[1], "license": 1,
        "coco_url": f"http://images.cocodataset.org/{folder}/{name}", "flickr_url": "", "date_captured": "",
    }  # fmt: skip


def annotation_entry(number: int, image_id: int, category_id: int, shape: Shape) -> dict[str, Any]:
    """As in COCO's files: polygons."""
    return {
        "id": number, "image_id": image_id, "category_id": category_id, "bbox": box_of(shape.mask),
        "area": float(shape.mask.sum()), "iscrowd": 0, "segmentation": polygons_of(shape.mask),
    }  # fmt: skip


@cache
def coco_ids() -> Mapping[str, int]:
    """Name -> category id, 1 to 90 with gaps."""
    content = yaml.safe_load((FOLDER / "coco.yaml").read_text(encoding="utf-8"))
    return dict(content["object_category_ids"])


def coco_categories() -> list[dict[str, Any]]:
    """All 80."""
    return [{"id": number, "name": name, "supercategory": ""} for name, number in coco_ids().items()]


def _crowd(number: int, image_id: int, shape: Shape) -> dict[str, Any]:
    """A crowd of persons beside the annotated ones: run lengths as a list of numbers."""
    strip = np.zeros_like(shape.mask)
    strip[:6] = True
    encoded = rle.encode(np.asfortranarray(strip, dtype=np.uint8))
    pixels = strip.ravel(order="F").astype(np.int8)
    changes = np.flatnonzero(np.diff(np.concatenate([[0], pixels, [1 - pixels[-1]]])))
    counts = np.diff(np.concatenate([[0], changes])).tolist()
    return {
        "id": number, "image_id": image_id, "category_id": coco_ids()["person"], "bbox": box_of(strip),
        "area": float(rle.area(encoded)), "iscrowd": 1,
        "segmentation": {"size": list(strip.shape), "counts": counts},
    }  # fmt: skip


LVIS_KINDS = ("person", "car_(automobile)", "dog", "chair", "bottle", "ball")
LVIS_FIRST_ID = 7000


def write_lvis(root: Path, *, num_images: int = 4, seed: int = 0) -> None:
    """`lvis/lvis_v1_{train,val}.json` and the minival file; images of val lie in both COCO folders, in turn."""
    train = _lvis_content(root, "train", ["train2017"] * num_images, seed)
    val = _lvis_content(root, "val", [("val2017", "train2017")[i % 2] for i in range(num_images)], seed)
    write_json(train, root / "lvis" / "lvis_v1_train.json")
    write_json(val, root / "lvis" / "lvis_v1_val.json")
    minival = [entry for entry in val["images"] if "/val2017/" in entry["coco_url"]]
    kept = {entry["id"] for entry in minival}
    named = [{**entry, "file_name": entry["coco_url"].split("/")[-1]} for entry in minival]
    annotations = [entry for entry in val["annotations"] if entry["image_id"] in kept]
    content = {**val, "images": named, "annotations": annotations}
    write_json(content, root / "lvis" / "lvis_v1_minival_inserted_image_name.json")


def lvis_ids() -> dict[str, int]:
    """Name -> category id, 1 to 1,203."""
    names = yaml.safe_load((FOLDER / "lvis.yaml").read_text(encoding="utf-8"))["objects"]
    return {name: number for number, name in enumerate(names, start=1)}


def _lvis_content(root: Path, split: str, folders: list[str], seed: int) -> dict[str, Any]:
    rng = np.random.default_rng((seed, 30, split == "val"))
    ids = lvis_ids()
    first = LVIS_FIRST_ID + (1 + len(folders) if split == "val" else 1)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, folder in enumerate(folders, start=first):
        scene = draw_scene(rng, dict.fromkeys(LVIS_KINDS, ()))
        name = f"{image_id:012d}.jpg"
        write_picture(root / "coco" / folder / name, scene.image)
        entry = image_entry(image_id, folder, name, scene.image.shape)
        del entry["file_name"]
        present = [ids[shape.name] for shape in scene.objects]
        negative = [ids[kind] for kind in LVIS_KINDS if ids[kind] not in present][:2]
        images.append({**entry, "neg_category_ids": negative, "not_exhaustive_category_ids": present[-1:]})
        for shape in scene.objects:
            made = annotation_entry(len(annotations) + 1, image_id, ids[shape.name], shape)
            del made["iscrowd"]  # LVIS has none
            annotations.append(made)
    categories = [
        {"id": number, "name": name, "frequency": "fcr"[number % 3], "synset": f"{name}.n.01", "synonyms": [name],
         "def": "", "image_count": 1, "instance_count": 1}
        for name, number in ids.items()
    ]  # fmt: skip
    return {
        "info": {"description": f"miniature of LVIS v1 {split}"}, "licenses": [], "images": images,
        "annotations": annotations, "categories": categories,
    }  # fmt: skip
