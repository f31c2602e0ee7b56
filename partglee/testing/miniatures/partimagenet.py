"""PartImageNet in miniature: the original release (polygons, ids from 0) and `_Seg` (8-bit label maps)."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from partglee.basics.files import write_json
from partglee.structures.vocabulary_files import FOLDER
from partglee.testing.miniatures.shapes import SIZE, box_of, draw_scene, polygons_of, write_map, write_picture


def write_partimagenet(root: Path, *, num_images: int = 4, seed: int = 0) -> None:
    """`partimagenet/{train,val,test}.json` of `num_images` each, images in a folder of their ImageNet class.

    Categories, images and annotations are numbered from 0, file names lack the folder, and the first part of every
    file is an outline of two points, as some of the real ones are.
    """
    vocabulary = _objects()
    parts = [(name, part) for name, listed in vocabulary.items() for part in listed]
    ids = {pair: number for number, pair in enumerate(parts)}
    for number, split in enumerate(("train", "val", "test")):
        rng = np.random.default_rng((seed, number))
        content: dict[str, Any] = {
            "info": {}, "licenses": [], "images": [], "annotations": [],
            "categories": [
                {"id": i, "name": f"{name} {part}".title(), "supercategory": name.title()}
                for (name, part), i in ids.items()
            ],
        }  # fmt: skip
        for image_id in range(num_images):
            scene = draw_scene(rng, vocabulary, most=1)
            (shape,) = scene.objects
            file_name = f"{_synset(shape.name, split)}_{image_id + 1}.JPEG"
            write_picture(root / "partimagenet" / split / file_name.split("_")[0] / file_name, scene.image)
            content["images"].append({"id": image_id, "file_name": file_name, "height": SIZE[0], "width": SIZE[1]})
            for part, mask in shape.parts:
                polygons = polygons_of(mask)
                if not content["annotations"]:
                    polygons = [polygons[0][:4]]
                content["annotations"].append(
                    {"id": len(content["annotations"]), "image_id": image_id, "category_id": ids[shape.name, part],
                     "bbox": box_of(mask), "area": float(mask.sum()), "iscrowd": 0, "segmentation": polygons}
                )  # fmt: skip
        write_json(content, root / "partimagenet" / f"{split}.json")


def write_partimagenet_seg(root: Path, *, num_images: int = 4, seed: int = 0) -> None:
    """`PartImageNet_Seg/{images,annotations}/{train,val,test}`; no part is 40, no object 158."""
    vocabulary = _objects()
    ids = {pair: i for i, pair in enumerate((name, part) for name, listed in vocabulary.items() for part in listed)}
    folder = root / "PartImageNet_Seg"
    for number, split in enumerate(("train", "val", "test")):
        rng = np.random.default_rng((seed, 10 + number))
        for index in range(num_images):
            scene = draw_scene(rng, vocabulary, most=1)
            (shape,) = scene.objects
            parts, whole = np.full(SIZE, 40, np.uint8), np.full(SIZE, 158, np.uint8)
            whole[shape.mask] = list(vocabulary).index(shape.name) * 14 + number  # 0-157: a class of this kind
            for part, mask in shape.parts:
                parts[mask] = ids[shape.name, part]
            name = f"{_synset(shape.name, split)}_{index + 1}"
            write_picture(folder / "images" / split / f"{name}.JPEG", scene.image)
            write_map(folder / "annotations" / split / f"{name}.png", parts)
            write_map(folder / "annotations" / f"{split}_whole" / f"{name}.png", whole)


def _synset(name: str, split: str) -> str:
    """An ImageNet class for an object of a split: the splits of the original release share none."""
    return f"n{zlib.crc32(f'{name} {split}'.encode()) % 10**8:08d}"


def _objects() -> dict[str, list[str]]:
    objects: dict[str, list[str]] = yaml.safe_load((FOLDER / "partimagenet_40.yaml").read_text(encoding="utf-8"))[
        "objects"
    ]
    return objects
