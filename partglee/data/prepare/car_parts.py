"""Car-Parts (Pasupa et al., 2022): photos of one main car each, 18 part labels as polygons, no car annotation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from partglee.basics.files import read_json
from partglee.data.prepare.command import Argv, run_mapped
from partglee.data.prepare.files import AnnotatedImage
from partglee.data.prepare.mapping import NameMapping
from partglee.data.prepare.regions import Region, draw_polygons, region_from_mask, split_components

MIN_AREA = 20  # pixels; smaller regions are slips of the pen


def read_car_parts(raw: Path, mapping: NameMapping, *, min_area: int = MIN_AREA) -> Iterator[AnnotatedImage]:
    """Images of a raw folder with `annotations.json` and `JPEGImages/`.

    The car is the union of its parts, so it lacks the roof and the fenders, which have no label. Images without a
    part are left out.

    Raises:
        ValueError: for a missing or damaged file, or a label that the mapping does not have.
    """
    content = read_json(raw / "annotations.json", "Car-Parts annotation file")
    label = {entry["id"]: str(entry["name"]) for entry in content["categories"]}
    of_image: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for annotation in content["annotations"]:
        of_image[annotation["image_id"]].append(annotation)
    for image in sorted(content["images"], key=lambda entry: str(entry["file_name"])):
        size = (int(image["height"]), int(image["width"]))
        car = np.zeros(size, dtype=bool)
        parts: list[Region] = []
        for annotation in of_image[image["id"]]:
            name = mapping.target(label[annotation["category_id"]])
            what = f"{raw / 'annotations.json'}: annotation {annotation['id']}"
            mask = draw_polygons(annotation.get("segmentation"), *size, what=what)
            if name is None or mask.sum() < min_area:
                continue
            pieces = split_components(mask, min_area) if name in mapping.components else [mask]
            parts += [region_from_mask(name, piece) for piece in pieces]
            for piece in pieces:
                car |= piece
        if parts:
            objects = (region_from_mask("car", car, tuple(parts)),)
            yield AnnotatedImage(f"JPEGImages/{image['file_name']}", *size, objects)


def main(argv: Argv = None) -> int:
    """`datasets/prepare_car_parts.py`."""
    return run_mapped(argv, "Car-Parts", "car_parts", raw="trainingset", read=read_car_parts)
