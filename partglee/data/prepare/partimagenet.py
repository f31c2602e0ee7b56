"""PartImageNet (He et al., 2022), the original release: parts as polygons, one JSON file a split, no objects.

Nearly every picture shows one object, and the parts say of which of the 11 kinds: the object is the union of its parts,
and every part has it as parent. Two objects of one kind in a picture become one.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from partglee.basics.files import read_json
from partglee.basics.names import name_key
from partglee.data.prepare.files import AnnotatedImage
from partglee.data.prepare.regions import Mask, Region, draw_polygons, region_from_mask
from partglee.structures.vocabulary_files import read_builtin

_SYNSET = re.compile(r"n\d{8}(?=_)")


def partimagenet_names() -> tuple[list[str], list[tuple[str, str]]]:
    """The 11 objects, and the 40 (object, part name) as the files have it ("Quadruped Head"), both in id order."""
    objects = dict(read_builtin("partimagenet").objects)  # type: ignore[arg-type]
    parts = [(name.title(), f"{name} {part}".title()) for name, listed in objects.items() for part in listed]
    return [name.title() for name in objects], parts


def part_categories() -> list[dict[str, Any]]:
    """The 40 part categories with the ids of the release, 0-39."""
    return [
        {"id": number, "name": name, "supercategory": owner, "level": "part"}
        for number, (owner, name) in enumerate(partimagenet_names()[1])
    ]


def joint_categories() -> list[dict[str, Any]]:
    """11 objects (0-10), then the 40 parts (11-50)."""
    objects = [{"id": number, "name": name, "level": "object"} for number, name in enumerate(partimagenet_names()[0])]
    return [*objects, *({**entry, "id": entry["id"] + len(objects)} for entry in part_categories())]


def read_partimagenet(annotations: Path, notes: Counter[str]) -> Iterator[AnnotatedImage]:
    """Images of `train.json` or `val.json`; file names get their synset folder in front, image ids stay.

    An outline of one or two points becomes the pixels it goes through, so that no annotation is lost.

    Raises:
        ValueError: for a missing or damaged file, a category that is none of the 40, or a file name without synset.
    """
    content = read_json(annotations, "PartImageNet annotation file")
    known = {name_key(name): (owner, name) for owner, name in partimagenet_names()[1]}
    category: dict[int, tuple[str, str]] = {}
    for entry in content["categories"]:
        if name_key(entry["name"]) not in known:
            raise ValueError(f"{annotations} has a category {entry['name']!r}, none of the 40 parts")
        category[entry["id"]] = known[name_key(entry["name"])]
    of_image: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for annotation in content["annotations"]:
        of_image[annotation["image_id"]].append(annotation)
    for image in content["images"]:
        size = (int(image["height"]), int(image["width"]))
        parts: dict[str, list[Region]] = defaultdict(list)
        masks: dict[str, Mask] = {}
        for annotation in of_image[image["id"]]:
            if annotation["category_id"] not in category:
                raise ValueError(f"{annotations}: annotation {annotation['id']} has no known category_id")
            owner, name = category[annotation["category_id"]]
            region, mask = _part(name, annotation, size, notes)
            parts[owner].append(region)
            masks[owner] = masks.get(owner, np.zeros(size, dtype=bool)) | mask
        if len(parts) > 1:
            notes["images with objects of several kinds"] += 1
        objects = tuple(region_from_mask(owner, masks[owner], tuple(found)) for owner, found in parts.items())
        yield AnnotatedImage(_with_synset(str(image["file_name"])), *size, objects, image_id=int(image["id"]))


def parts_alone(image: AnnotatedImage) -> AnnotatedImage:
    """The image without its objects."""
    loose = (*(part for region in image.objects for part in region.parts), *image.loose)
    return AnnotatedImage(image.file_name, image.height, image.width, (), image_id=image.image_id, loose=loose)


def _part(name: str, annotation: dict[str, Any], size: tuple[int, int], notes: Counter[str]) -> tuple[Region, Mask]:
    """The region, with the file's box and area where it has them, and its mask."""
    polygons = annotation["segmentation"]
    usable = [polygon for polygon in polygons if len(polygon) >= 6 and len(polygon) % 2 == 0]
    mask = draw_polygons(usable, *size)
    if not mask.any():
        notes["outlines that enclose nothing (drawn as lines)"] += 1
        mask = _traced(polygons, size)
        return region_from_mask(name, mask), mask
    if len(usable) < len(polygons):
        notes["polygons of fewer than three points beside others (left out)"] += 1
    drawn = region_from_mask(name, mask)
    x, y, w, h = (float(value) for value in annotation.get("bbox") or drawn.box)
    box = (x, y, w, h) if w > 0 and h > 0 else drawn.box
    return Region(name, box, float(annotation.get("area") or drawn.area), usable), mask


def _traced(polygons: list[list[float]], size: tuple[int, int]) -> Mask:
    """Pixels that the outlines go through; the pixel nearest to the image where that is none."""
    height, width = size
    canvas = Image.new("1", (width, height))
    pen = ImageDraw.Draw(canvas)
    first = (0, 0)
    for polygon in polygons:
        points = [
            (min(max(int(x), 0), width - 1), min(max(int(y), 0), height - 1))
            for x, y in zip(polygon[0::2], polygon[1::2], strict=False)
        ]
        first = points[0] if points else first
        pen.line(points or [first], fill=1)
        pen.point(points or [first], fill=1)
    pen.point(first, fill=1)
    traced: Mask = np.array(canvas, dtype=bool)
    return traced


def _with_synset(file_name: str) -> str:
    if "/" in file_name:
        return file_name
    synset = _SYNSET.match(file_name)
    if synset is None:
        raise ValueError(f"image {file_name!r} is not named as ImageNet does it (n01440764_10026.JPEG)")
    return f"{synset[0]}/{file_name}"
