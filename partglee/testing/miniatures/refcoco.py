"""RefCOCO, RefCOCO+ and RefCOCOg in miniature: pickled refs as Python 2 left them, instances, COCO 2014 pictures."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from partglee.basics.files import whole_file, write_json
from partglee.data.prepare.refer import REFER_SETS, ReferSet
from partglee.testing.miniatures.coco import annotation_entry, coco_categories, coco_ids, image_entry
from partglee.testing.miniatures.shapes import draw_scene, write_picture

KINDS = ("person", "car", "dog", "chair")
FIRST_ID = 9000
_PLACES = ("left", "middle", "right")


def write_refcoco(root: Path, *, num_images: int = 4, seed: int = 0) -> None:
    """`refer/{refcoco,refcoco+,refcocog}/` with `num_images` pictures for each split in `coco/train2014/`."""
    folders: dict[str, dict[str, Any]] = {}
    for number, which in enumerate(REFER_SETS):
        content = folders.setdefault(which.folder, {"images": [], "annotations": [], "categories": coco_categories()})
        rng = np.random.default_rng((seed, 40 + number))
        refs = _refs(root, which, content, rng, num_images, FIRST_ID + 1000 * number)
        with whole_file(root / "refer" / which.folder / f"refs({which.by}).p") as beside:
            beside.write_bytes(pickle.dumps(refs, protocol=2))
    for folder, content in folders.items():
        write_json({"info": {}, "licenses": [], **content}, root / "refer" / folder / "instances.json")


def _refs(
    root: Path, which: ReferSet, content: dict[str, Any], rng: np.random.Generator, num_images: int, first: int
) -> list[dict[str, Any]]:
    refs: list[dict[str, Any]] = []
    sentence_id = 0
    for place in range(num_images * len(which.splits)):
        image_id = first + place
        name = f"COCO_train2014_{image_id:012d}.jpg"
        scene = draw_scene(rng, dict.fromkeys(KINDS, ()))
        write_picture(root / "coco" / "train2014" / name, scene.image)
        content["images"].append(image_entry(image_id, "train2014", name, scene.image.shape))
        for position, shape in enumerate(scene.objects):
            annotation = annotation_entry(100 * image_id + position, image_id, coco_ids()[shape.name], shape)
            content["annotations"].append(annotation)
            if position == 2:
                continue  # not every annotation is referred to
            texts = [f"{_PLACES[position]} {shape.name}", f"The {shape.name} in the picture, number {position + 1}"]
            sentences = []
            for text in texts:
                plain = text.lower().replace(",", "")
                sentences.append({"sent_id": sentence_id, "raw": text, "sent": plain, "tokens": plain.split()})
                sentence_id += 1
            refs.append(
                {"ref_id": len(refs), "ann_id": annotation["id"], "category_id": annotation["category_id"],
                 "image_id": image_id, "file_name": f"{name[:-4]}_{annotation['id']}.jpg",
                 "split": which.splits[place % len(which.splits)],
                 "sent_ids": [sentence["sent_id"] for sentence in sentences], "sentences": sentences}
            )  # fmt: skip
    return refs
