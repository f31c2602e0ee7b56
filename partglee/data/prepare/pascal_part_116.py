"""Pascal-Part-116 (OV-PARTS): pairs of 8-bit maps of object classes and of parts -> objects, parts and parents.

The object map says the class of a pixel, not the instance. Where PASCAL-Part's `.mat` file of an image is at hand, its
objects are the instances; otherwise every connected region of a class is one, so that two people who touch are one
object, and one who is cut in two is two.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from partglee.basics.arguments import ArgumentParser
from partglee.data.prepare.command import Argv, add_raw_and_splits, each_split, run, shown
from partglee.data.prepare.files import AnnotatedImage
from partglee.data.prepare.part_maps import MIN_AREA, part_labels, with_parts, write_maps
from partglee.data.prepare.pascal_part import read_objects
from partglee.data.prepare.regions import Mask, split_components
from partglee.data.segmentation import label_files, labels_in, read_label_map
from partglee.data.spec import datasets_root
from partglee.structures.vocabulary_files import read_builtin

IGNORE = 255
_SPELLING = {"table": "diningtable"}  # of the .mat files


def object_names() -> list[str]:
    """The 20 objects in id order; 16 have parts."""
    return list(read_builtin("pascal_part_116").objects)


def read_pascal_part_116(
    root: Path, split: str, notes: Counter[str], *, instances: Path | None = None
) -> Iterator[AnnotatedImage]:
    """Images of `annotations_detectron2_{obj,part}/SPLIT`; file names are relative to `images/SPLIT`.

    Args:
        instances: folder of PASCAL-Part's `.mat` files, None = regions are instances.

    Raises:
        ValueError: for missing or damaged files, maps of different sizes, or labels out of range.
    """
    labels, names = part_labels("pascal_part_116"), object_names()
    folder = root / "annotations_detectron2_part" / split
    for file in label_files(folder):
        object_file = root / "annotations_detectron2_obj" / split / file.relative_to(folder)
        picture = file.relative_to(folder).with_suffix(".jpg")
        if not (root / "images" / split / picture).is_file():
            notes["maps without an image (left out)"] += 1
            continue
        part_map, object_map = read_label_map(file), read_label_map(object_file)
        if part_map.shape != object_map.shape:
            raise ValueError(f"{file} is a map of {part_map.shape}, but {object_file} one of {object_map.shape}")
        found = labels_in(part_map, len(labels), IGNORE, file)
        kinds = labels_in(object_map, len(names), IGNORE, object_file)
        known = _of_mat(instances, file.stem, part_map.shape, notes)
        objects = [
            (names[kind], mask) for kind in kinds for mask in _instances(object_map == kind, names[kind], known, notes)
        ]
        regions, loose = with_parts(objects, part_map, found, labels)
        height, width = part_map.shape
        yield AnnotatedImage(picture.as_posix(), height, width, regions, loose=loose)


def _of_mat(
    folder: Path | None, stem: str, size: tuple[int, ...], notes: Counter[str]
) -> list[tuple[str, NDArray[np.bool_]]] | None:
    """(object name, mask) of the objects of an image's `.mat` file; None where it is not there or of another size."""
    file = None if folder is None else folder / f"{stem}.mat"
    if file is None or not file.is_file():
        notes["images whose instances are connected regions"] += 1
        return None
    instances = [(_SPELLING.get(raw.kind, raw.kind), raw.mask) for raw in read_objects(file)]
    if any(mask.shape != size for _, mask in instances):
        notes["images whose .mat file has another size (instances are connected regions)"] += 1
        return None
    return instances


def _instances(region: Mask, name: str, known: list[tuple[str, Mask]] | None, notes: Counter[str]) -> list[Mask]:
    """The instances of a class whose pixels are `region`; of those not among the known, regions of `MIN_AREA`."""
    inside = [region & mask for kind, mask in known or () if kind == name and (region & mask).any()]
    rest = region & ~np.logical_or.reduce(inside) if inside else region
    pieces = split_components(rest, MIN_AREA)
    if known is not None and pieces:
        notes["regions in no object of the .mat file (objects of their own)"] += len(pieces)
    return inside + pieces or [region]


def main(argv: Argv = None) -> int:
    """`datasets/prepare_pascal_part_116.py`."""
    parser = ArgumentParser(
        description="Pascal-Part-116 -> hierarchical COCO JSON: 20 objects, their parts, and the base objects alone."
    )
    mats = datasets_root() / "pascal_part" / "Annotations_Part"
    parser.add_argument(
        "--instances", type=Path, default=mats, metavar="DIR",
        help="PASCAL-Part's .mat files, which tell instances apart; used where they are (default: %(default)s)",
    )  # fmt: skip
    add_raw_and_splits(parser, "the folder PascalPart116 of the data sets' root")
    return run(parser, argv, _prepare)


def _prepare(arguments: argparse.Namespace) -> Iterator[str]:
    for root, split, notes in each_split(arguments, "PascalPart116"):
        images = list(shown(read_pascal_part_116(root, split, notes, instances=arguments.instances)))
        yield from write_maps(
            images, root / "pascalvoc", split, vocabulary="pascal_part_116", objects=object_names(), notes=notes,
            arguments=arguments,
        )  # fmt: skip
