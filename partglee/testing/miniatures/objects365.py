"""Objects365 v2 in miniature: all 365 categories, file names with the folders of the archives, crowds, no masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from partglee.basics.files import write_json
from partglee.structures.vocabulary_files import FOLDER
from partglee.testing.miniatures.shapes import box_of, draw_scene, write_picture

KINDS = ("Person", "Car", "Dog", "Chair", "Bottle", "Wild Bird")


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
            scene = draw_scene(rng, dict.fromkeys(KINDS, ()))
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
