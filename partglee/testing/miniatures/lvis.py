"""LVIS v1 in miniature: all 1,203 categories, images named by their address, names looked for and not found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from partglee.basics.files import write_json
from partglee.structures.vocabulary_files import FOLDER
from partglee.testing.miniatures.coco import annotation_entry, image_entry
from partglee.testing.miniatures.shapes import draw_scene, write_picture

KINDS = ("person", "car_(automobile)", "dog", "chair", "bottle", "ball")
FIRST_ID = 7000


def write_lvis(root: Path, *, num_images: int = 4, seed: int = 0) -> None:
    """`lvis/lvis_v1_{train,val}.json` and the minival file; images of val lie in both COCO folders, in turn."""
    train = _content(root, "train", ["train2017"] * num_images, seed)
    val = _content(root, "val", [("val2017", "train2017")[i % 2] for i in range(num_images)], seed)
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


def _content(root: Path, split: str, folders: list[str], seed: int) -> dict[str, Any]:
    rng = np.random.default_rng((seed, 30, split == "val"))
    ids = lvis_ids()
    first = FIRST_ID + (1 + len(folders) if split == "val" else 1)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, folder in enumerate(folders, start=first):
        scene = draw_scene(rng, dict.fromkeys(KINDS, ()))
        name = f"{image_id:012d}.jpg"
        write_picture(root / "coco" / folder / name, scene.image)
        entry = image_entry(image_id, folder, name, scene.image.shape)
        del entry["file_name"]
        found = [ids[shape.name] for shape in scene.objects]
        negative = [ids[kind] for kind in KINDS if ids[kind] not in found][:2]
        images.append({**entry, "neg_category_ids": negative, "not_exhaustive_category_ids": found[-1:]})
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
