"""Referring data in miniature, with COCO 2014 pictures: RefCOCO, RefCOCO+ and RefCOCOg with pickled refs as Python 2
left them, gRefCOCO with several targets or none, RefCOCOm with parts as mask images; triples of image, mask, caption.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from partglee.basics.files import whole_file, write_json
from partglee.data.annotations.triples import write_triples
from partglee.data.prepare.refer import REFER_SETS, ReferSet
from partglee.testing.miniatures.coco import annotation_entry, coco_categories, coco_ids, image_entry
from partglee.testing.miniatures.shapes import Mask, box_of, draw_scene, run_lengths_of, write_map, write_picture

KINDS = ("person", "car", "dog", "chair")
FIRST_ID = 9000
_PLACES = ("left", "middle", "right")


def write_refcoco(root: Path, *, num_images: int = 4, seed: int = 0) -> None:
    """`refer/{refcoco,refcoco+,refcocog}/` with `num_images` pictures for each split in `coco/train2014/`."""
    folders: dict[str, dict[str, Any]] = {}
    for number, which in enumerate(one for one in REFER_SETS if not one.generalized):
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


def write_grefcoco(root: Path, *, num_images: int = 4, seed: int = 0) -> None:
    """`refer/grefcoco/`: sentences that mean one object, all of them (one may be a crowd), or nothing."""
    (which,) = (one for one in REFER_SETS if one.generalized)
    rng = np.random.default_rng((seed, 48))
    content: dict[str, Any] = {"images": [], "annotations": [], "categories": coco_categories()}
    refs: list[dict[str, Any]] = []
    for place in range(num_images * len(which.splits)):
        image_id = FIRST_ID + 5000 + place
        name = f"COCO_train2014_{image_id:012d}.jpg"
        scene = draw_scene(rng, dict.fromkeys(KINDS, ()))
        write_picture(root / "coco" / "train2014" / name, scene.image)
        content["images"].append(image_entry(image_id, "train2014", name, scene.image.shape))
        entries = [
            annotation_entry(100 * image_id + position, image_id, coco_ids()[shape.name], shape)
            for position, shape in enumerate(scene.objects)
        ]
        if len(entries) == 3:
            entries[2]["iscrowd"] = 1
        content["annotations"] += entries
        ids, categories = ([entry[key] for entry in entries] for key in ("id", "category_id"))
        split = which.splits[place % len(which.splits)]
        said: list[tuple[Any, Any, list[str]]] = [
            (ids[0], categories[0], [f"the {scene.objects[0].name} on the left", "that one"]),
            (ids, categories, ["everything", f"all {len(ids)} of them", ""]),
            ([-1], [-1], ["the zebra", "a second moon"]),
        ]
        for targets, kinds, texts in said:
            first = 10 * len(refs)
            refs.append(
                {"image_id": image_id, "split": split, "category_id": kinds, "ann_id": targets, "ref_id": len(refs),
                 "file_name": name, "no_target": targets == [-1], "sent_ids": list(range(first, first + len(texts))),
                 "sentences": [{"tokens": text.split(), "raw": text.title(), "sent_id": first + k, "sent": text}
                               for k, text in enumerate(texts)]}
            )  # fmt: skip
    folder = root / "refer" / which.folder
    write_json(refs, folder / which.file)
    write_json({"info": {}, "licenses": [], **content}, folder / "instances.json")


PARTS = {"person": ("head", "arm", "leg"), "car": ("wheel", "door"), "dog": ("head", "tail"), "chair": ()}


def write_refcocom(root: Path, *, num_images: int = 4, seed: int = 0) -> None:
    """`RefCOCOm/`: two annotation files for each split, and a mask image for each segment."""
    folder = root / "RefCOCOm"
    for number, split in enumerate(("val", "testA", "testB")):
        rng = np.random.default_rng((seed, 49 + number))
        rows: dict[str, list[dict[str, Any]]] = {"part_only": [], "object_part": []}
        for place in range(num_images):
            image_id = FIRST_ID + 7000 + 100 * number + place
            name = f"COCO_train2014_{image_id:012d}"
            scene = draw_scene(rng, PARTS)
            write_picture(root / "coco" / "train2014" / f"{name}.jpg", scene.image)
            segment = 100 * image_id
            for position, shape in enumerate(scene.objects):
                owner = f"{shape.name} {_PLACES[position]}"
                for part, mask in shape.parts:
                    row = _segment(segment, name, part, mask, [f"{part} of the {owner}", f"the {owner}'s {part}"])
                    rows["part_only"].append(row)
                    rows["object_part"].append(row)
                    write_map(folder / "masks" / f"{segment}.png", np.where(mask, np.uint8(255), np.uint8(0)))
                    segment += 1
                rows["object_part"].append(_segment(segment, name, shape.name, shape.mask, [owner]))
                write_map(folder / "masks" / f"{segment}.png", np.where(shape.mask, np.uint8(255), np.uint8(0)))
                segment += 1
        for kind, found in rows.items():
            write_json(found, folder / "annotations" / f"{split}_{kind}.json")


def write_mres_triples(root: Path, *, num_images: int = 4, seed: int = 0) -> None:
    """`triples/train.jsonl`: a row for each object and each part of pictures in `triples/images/`, with captions."""
    rng = np.random.default_rng((seed, 60))
    rows: list[dict[str, Any]] = []
    for place in range(num_images):
        scene, name = draw_scene(rng, PARTS), f"{place:04d}.jpg"
        write_picture(root / "triples" / "images" / name, scene.image)
        for position, shape in enumerate(scene.objects):
            owner = f"{_PLACES[position]} {shape.name}"
            rows.append(_triple(len(rows), name, shape.mask, "object", owner, shape.name))
            own = rows[-1]["region_id"]
            for part, mask in shape.parts:
                row = _triple(len(rows), name, mask, "part", f"{part} of the {owner}", f"{shape.name}:{part}")
                rows.append({**row, "parent": own})
    write_triples(rows, root / "triples" / "train.jsonl")


def _triple(number: int, image: str, mask: Mask, level: str, caption: str, name: str) -> dict[str, Any]:
    return {
        "image": image, "mask": run_lengths_of(mask), "caption": caption, "level": level, "name": name,
        "region_id": number,
    }  # fmt: skip


def _segment(number: int, image: str, kind: str, mask: Mask, texts: list[str]) -> dict[str, Any]:
    x, y, w, h = box_of(mask)
    sentences = [{"idx": k, "sent_id": 10 * number + k, "sent": text} for k, text in enumerate(texts)]
    return {
        "img_name": image, "segment_id": number, "bbox": [x, y, x + w, y + h], "cat": kind, "sentences": sentences,
        "sentences_num": len(sentences),
    }  # fmt: skip
