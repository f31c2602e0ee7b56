"""ADE20K-Part-234 (OV-PARTS): COCO instances of 44 objects and 16-bit part maps -> objects, parts and parents."""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from partglee.basics.arguments import ArgumentParser
from partglee.basics.files import read_json
from partglee.data.prepare.command import Argv, add_raw_and_splits, each_split, run, shown
from partglee.data.prepare.files import AnnotatedImage
from partglee.data.prepare.part_maps import part_labels, with_parts, write_maps
from partglee.data.prepare.regions import Mask
from partglee.data.segmentation import decode, labels_in, read_label_map
from partglee.structures.vocabulary_files import FOLDER

IGNORE = 65535
FOLDERS = {"train": "training", "val": "validation"}


@cache
def object_names() -> tuple[str, ...]:
    """The 44 objects in the order of their ids: alphabetical, which is not the order of the part labels."""
    content = yaml.safe_load((FOLDER / "ade20k_part_234.yaml").read_text(encoding="utf-8"))
    return tuple(content["object_id_order"])


def read_ade20k_part_234(root: Path, split: str, notes: Counter[str]) -> Iterator[AnnotatedImage]:
    """Images of `ade20k_instance_SPLIT.json`; file names are relative to `images/{training,validation}`.

    Images that are not there are left out: some (`ADE_frame_*`) are in no public download.

    Raises:
        ValueError: for missing or damaged annotations, maps of another size than the image, or labels out of range.
    """
    content = read_json(root / f"ade20k_instance_{split}.json", "ADE20K-Part-234 instances file")
    labels = part_labels("ade20k_part_234")
    of_image: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for annotation in content["annotations"]:
        of_image[annotation["image_id"]].append(annotation)
    for image in content["images"]:
        name = Path(str(image["file_name"])).name
        if not (root / "images" / FOLDERS[split] / name).is_file():
            notes["images that are not there (left out)"] += 1
            continue
        file = (root / "annotations_detectron2_part" / FOLDERS[split] / name).with_suffix(".png")
        part_map = read_label_map(file)
        size = (int(image["height"]), int(image["width"]))
        if part_map.shape != size:
            raise ValueError(f"{file} is a map of {part_map.shape}, but its image of {size} (height, width)")
        objects = [found for entry in of_image[image["id"]] if (found := _instance(entry, size, notes)) is not None]
        regions, loose = with_parts(objects, part_map, labels_in(part_map, len(labels), IGNORE, file), labels)
        yield AnnotatedImage(name, *size, regions, image_id=int(image["id"]), loose=loose)


def _instance(entry: dict[str, Any], size: tuple[int, int], notes: Counter[str]) -> tuple[str, Mask] | None:
    """(object name, (H, W)); None without a mask."""
    names = object_names()
    if not 0 <= entry["category_id"] < len(names):
        raise ValueError(f"annotation {entry['id']} has category_id {entry['category_id']}, but ids are 0 to 43")
    try:
        mask = decode(entry.get("segmentation"), *size)
    except ValueError:
        notes["instances without a mask (left out)"] += 1
        return None
    if not mask.any():
        notes["instances without a mask (left out)"] += 1
        return None
    return names[entry["category_id"]], mask


def main(argv: Argv = None) -> int:
    """`datasets/prepare_ade20k_part_234.py`."""
    parser = ArgumentParser(
        description="ADE20K-Part-234 -> hierarchical COCO JSON: 44 objects, their parts, and the base objects alone."
    )
    add_raw_and_splits(parser, "the folder ADE20KPart234 of the data sets' root")
    return run(parser, argv, _prepare)


def _prepare(arguments: argparse.Namespace) -> Iterator[str]:
    for root, split, notes in each_split(arguments, "ADE20KPart234"):
        images = list(shown(read_ade20k_part_234(root, split, notes)))
        yield from write_maps(
            images, root / "ade20k", split, vocabulary="ade20k_part_234", objects=object_names(), notes=notes,
            arguments=arguments,
        )  # fmt: skip
