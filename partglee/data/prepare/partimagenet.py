"""PartImageNet (He et al., 2022), the original release: parts as polygons, one JSON file a split, no objects.

Nearly every picture shows one object, and the parts say of which of the 11 kinds: the object is the union of its parts,
and every part has it as parent. Two objects of one kind in a picture become one.

PartImageNet_Seg, the second release: label maps of parts (0-39, 40 none) and of whole objects (0-157, 158 none). The
object is the region of its ImageNet class, so its mask is whole; its kind is that of most of its part pixels. Parts
inside it that are of this kind have it as parent, others have none.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from partglee.basics.arguments import ArgumentParser
from partglee.basics.files import read_json
from partglee.basics.masks import is_finite
from partglee.basics.names import name_key
from partglee.data.prepare.command import Argv, add_raw_and_splits, each_split, run, shown, write_named
from partglee.data.prepare.files import AnnotatedImage
from partglee.data.prepare.regions import Mask, Region, draw_polygons, region_from_mask
from partglee.data.segmentation import label_files, labels_in, read_label_map, usable_polygons
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
            what = f"{annotations}: annotation {annotation['id']}"
            region, mask = _part(name, annotation, size, notes, what=what)
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


def _part(
    name: str, annotation: dict[str, Any], size: tuple[int, int], notes: Counter[str], *, what: str
) -> tuple[Region, Mask]:
    """The region, with the file's box and area where it has them, and its mask."""
    polygons = annotation.get("segmentation")
    mask = draw_polygons(polygons, *size, what=what)  # says what is no polygon at all
    polygons = [polygon for polygon in polygons or () if all(map(is_finite, polygon))]
    usable, _ = usable_polygons(polygons, size, what=what)
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


# -- the second release ---------------------------------------------------------------------------------------------

NO_PART, NO_OBJECT = 40, 158


def read_partimagenet_seg(root: Path, split: str, notes: Counter[str]) -> Iterator[AnnotatedImage]:
    """Images of `annotations/SPLIT/`, `annotations/SPLIT_whole/` and `images/SPLIT/`; file names begin in `images/`.

    Raises:
        ValueError: for missing or damaged files, maps of different sizes, or labels out of range.
    """
    folder = root / "annotations" / split
    for file in label_files(folder):
        place = file.relative_to(folder)
        whole_file = root / "annotations" / f"{split}_whole" / place
        parts, wholes = read_label_map(file), read_label_map(whole_file)
        if parts.shape != wholes.shape:
            raise ValueError(f"{file} is a map of {parts.shape}, but {whole_file} one of {wholes.shape}")
        labels = labels_in(parts, NO_PART, NO_PART, file)
        classes = labels_in(wholes, NO_OBJECT, NO_OBJECT, whole_file)
        name = (Path(split) / place.with_suffix(".JPEG")).as_posix()
        yield _image(name, parts, wholes, labels, classes, notes)


def _image(
    name: str,
    parts: NDArray[np.int64],
    wholes: NDArray[np.int64],
    labels: list[int],
    classes: list[int],
    notes: Counter[str],
) -> AnnotatedImage:
    names = partimagenet_names()[1]
    objects, loose = [], []
    covered = np.zeros(parts.shape, dtype=bool)
    for number in classes:
        whole = wholes == number
        kind = _kind(parts[whole], names)
        if kind is None:
            notes["objects without a part, whose kind is unknown (left out)"] += 1
            continue
        mine: list[tuple[str, Mask]] = []
        for label in labels:
            mask = whole & (parts == label)
            if names[label][0] == kind and mask.any():
                mine.append((names[label][1], mask))
                covered |= mask
        objects.append(region_from_mask(kind, whole, tuple(region_from_mask(part, mask) for part, mask in mine)))
    for label in labels:
        rest = (parts == label) & ~covered
        if rest.any():
            loose.append(region_from_mask(names[label][1], rest))
    height, width = parts.shape
    return AnnotatedImage(name, height, width, tuple(objects), loose=tuple(loose))


def _kind(values: NDArray[np.int64], names: list[tuple[str, str]]) -> str | None:
    """The object that most part pixels belong to."""
    pixels: Counter[str] = Counter()
    for label, count in zip(*np.unique(values, return_counts=True), strict=True):
        if label != NO_PART:
            pixels[names[label][0]] += int(count)
    return pixels.most_common(1)[0][0] if pixels else None


# -- the script -----------------------------------------------------------------------------------------------------


def main(argv: Argv = None) -> int:
    """`datasets/prepare_partimagenet.py`."""
    parser = ArgumentParser(
        description="PartImageNet -> hierarchical COCO JSON, parts alone and with the objects they are parts of."
    )
    parser.add_argument("--release", choices=("original", "seg"), default="original", help="which one is there")
    add_raw_and_splits(parser, "the folder partimagenet or PartImageNet_Seg of the data sets' root")
    return run(parser, argv, _prepare)


def _prepare(arguments: argparse.Namespace) -> Iterator[str]:
    seg = arguments.release == "seg"
    for root, split, notes in each_split(arguments, "PartImageNet_Seg" if seg else "partimagenet"):
        if seg:
            images = read_partimagenet_seg(root, split, notes)
            file = root / f"{split}_joint.json"
            yield from write_named(images, file, joint_categories(), "PartImageNet_Seg", notes, arguments)
            continue
        joint = list(shown(read_partimagenet(root / f"{split}.json", notes)))
        file = root / f"{split}_format.json"
        alone = map(parts_alone, joint)
        yield from write_named(alone, file, part_categories(), "PartImageNet, parts", notes, arguments)
        file = root / f"partimagenet_{split}_joint.json"
        yield from write_named(joint, file, joint_categories(), "PartImageNet, objects and parts", notes, arguments)
