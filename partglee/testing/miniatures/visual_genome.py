"""Visual Genome in miniature: `objects.json` and `image_data.json` as published, and the LVIS-style file of phrases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from partglee.basics.files import whole_file, write_json
from partglee.testing.miniatures.shapes import box_of, draw_scene, write_picture

KINDS = {
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
        scene = draw_scene(rng, KINDS)
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
