"""PACO-LVIS and PACO-EGO4D in miniature: LVIS JSON, all 531 categories, parts linked by `obj_ann_id`, attributes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from partglee.basics.files import write_json
from partglee.structures.vocabulary_files import FOLDER
from partglee.testing.miniatures.shapes import Shape, box_of, draw_scene, run_lengths_of, write_picture

_SPLITS = ("train", "val", "test")


def write_paco_lvis(root: Path, *, num_images: int = 4, seed: int = 0) -> None:
    """`paco/annotations/paco_lvis_v1_{train,val,test}.json` of `num_images` each, images in COCO's folders."""
    for number, split in enumerate(_SPLITS):
        folders = {"train": ("train2017",), "val": ("train2017", "val2017"), "test": ("val2017",)}[split]
        names = [f"{folders[i % len(folders)]}/{1000 * number + i + 1:012d}.jpg" for i in range(num_images)]
        _write(root, "lvis", split, root / "coco", names, seed=(seed, number))


def write_paco_ego4d(root: Path, *, num_images: int = 4, seed: int = 0) -> None:
    """`paco/annotations/paco_ego4d_v1_{train,val,test}.json` of `num_images` each, frames under `paco/images/`."""
    for number, split in enumerate(_SPLITS):
        names = [f"{seed:08x}-ec2d/{number}_{i:06d}.jpeg" for i in range(num_images)]
        _write(root, "ego4d", split, root / "paco" / "images", names, seed=(seed, 10 + number))


def _write(root: Path, source: str, split: str, images: Path, names: list[str], *, seed: tuple[int, int]) -> None:
    vocabulary = _vocabulary()
    rng = np.random.default_rng(seed)
    ids = _category_ids(vocabulary)
    content: dict[str, Any] = {
        "info": {"description": f"miniature of PACO {source} {split}"}, "licenses": [],
        "images": [], "annotations": [], "categories": _categories(vocabulary, ids),
        "part_categories": [
            {"id": i, "name": name}
            for i, name in enumerate(sorted({part for parts in vocabulary["objects"].values() for part in parts}))
        ],
        **_attributes(vocabulary),
        "joint_obj_attribute_categories": [], "queries": [],
    }  # fmt: skip
    for image_id, name in enumerate(names, start=1):
        scene = draw_scene(rng, vocabulary["objects"])
        write_picture(images / name, scene.image)
        present: set[int] = set()
        for shape in scene.objects:
            entries = _entries(shape, image_id, len(content["annotations"]) + 1, ids, rng, ego4d=source == "ego4d")
            content["annotations"] += entries
            present |= {entry["category_id"] for entry in entries}
        absent = [i for i in (ids["dog"], ids["chair"], ids["dog:head"], ids["chair:leg"]) if i not in present]
        content["images"].append(
            {"id": image_id, "file_name": name, "height": scene.image.shape[0], "width": scene.image.shape[1],
             "license": 1, "neg_category_ids": absent, "not_exhaustive_category_ids": sorted(present)[-1:],
             "neg_category_ids_attrs": [], "not_exhaustive_category_ids_attrs": []}
        )  # fmt: skip
    write_json(content, root / "paco" / "annotations" / f"paco_{source}_v1_{split}.json")


def _entries(
    shape: Shape, image_id: int, first: int, ids: dict[str, int], rng: np.random.Generator, *, ego4d: bool
) -> list[dict[str, Any]]:
    """The parts first, as nothing in the files promises that an object comes before its parts."""
    named = [(f"{shape.name}:{part}", mask) for part, mask in shape.parts] + [(shape.name, shape.mask)]
    object_id = first + len(named) - 1
    entries = []
    for number, (name, mask) in enumerate(named, start=first):
        color = int(rng.integers(0, 30))
        entry: dict[str, Any] = {
            "id": number, "image_id": image_id, "category_id": ids[name], "bbox": box_of(mask),
            "area": float(mask.sum()), "iscrowd": 0, "segmentation": run_lengths_of(mask), "obj_ann_id": object_id,
            "attribute_ids": [color, int(rng.integers(41, 55))], "dom_color_ids": [color],
            "unknown_color": 0, "unknown_pattern_marking": 1, "unknown_material": 0, "unknown_transparency": 1,
        }  # fmt: skip
        if ego4d:
            entry.update(instance_id=f"{shape.name}_{number}", blur_level=0)
            if name == shape.name and not shape.parts:
                entry["segmentation"] = []  # some objects of EGO4D have only a box
        entries.append(entry)
    return entries


def _vocabulary() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((FOLDER / "paco.yaml").read_text(encoding="utf-8"))
    return content


def _category_ids(vocabulary: dict[str, Any]) -> dict[str, int]:
    parts = enumerate(vocabulary["part_id_sequence"], start=vocabulary["part_category_ids"]["first"])
    return {**vocabulary["object_category_ids"], **{name: number for number, name in parts}}


def _categories(vocabulary: dict[str, Any], ids: dict[str, int]) -> list[dict[str, Any]]:
    letters = {name: kind[0] for kind in ("rare", "common") for name in vocabulary["frequency"][kind]}
    return [
        {"id": number, "name": name, "supercategory": "PART" if ":" in name else "OBJECT",
         "frequency": letters.get(name, "f"), "image_count": 1, "instance_count": 1, "synset": ""}
        for name, number in ids.items()
    ]  # fmt: skip


def _attributes(vocabulary: dict[str, Any]) -> dict[str, Any]:
    kinds = {kind: names for kind, names in vocabulary["attributes"].items() if kind != "background"}
    names = [(name, kind) for kind, entries in kinds.items() for name in entries]
    of_kind: dict[str, list[int]] = {kind: [] for kind in kinds}
    for number, (_, kind) in enumerate(names):
        of_kind[kind].append(number)
    return {
        "attributes": [{"id": number, "name": name, "supercategory": "ATTR"} for number, (name, _) in enumerate(names)],
        "attr_type_to_attr_idxs": of_kind,
    }
