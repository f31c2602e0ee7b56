"""Pascal-Part-93 (VLPart's taxonomy): PASCAL-Part's `.mat` files -> VLPart's files and those of joint training.

The flat files (parts alone) repeat VLPart's conversion, so that numbers compare: a chainwheel is a wheel, boxes lack
the last pixel, areas are those of boxes. Only annotation ids differ: they begin at 1, as 0 cannot be matched in COCO
tools. The joint files have all 20 objects with their masks, true boxes and parents, and no chainwheel among the wheels.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from partglee.basics.arguments import ArgumentParser
from partglee.basics.files import read_text
from partglee.data.prepare.command import Argv, add_raw_and_splits, each_split, run, shown, write_named
from partglee.data.prepare.files import AnnotatedImage, without_objects
from partglee.data.prepare.mapping import categories_of
from partglee.data.prepare.pascal_part import PartRule, object_region, part_rule, read_objects
from partglee.data.prepare.regions import Region
from partglee.structures.vocabulary_files import split_objects


class PascalImage(NamedTuple):
    """One image, read by both rules."""

    nested: AnnotatedImage  # objects with their parts
    flat: AnnotatedImage  # VLPart's part boxes
    kinds: tuple[str, ...]  # of all its objects


def read_pascal_part_93(root: Path, split: str, notes: Counter[str]) -> Iterator[PascalImage]:
    """Images of `VOCdevkit/VOC2010/ImageSets/Main/SPLIT.txt` that have a `.mat` file; ids are the digits of the name.

    Raises:
        ValueError: for missing or damaged files, or an object class that is not in VOC.
    """
    voc = root / "VOCdevkit" / "VOC2010"
    listed = voc / "ImageSets" / "Main" / f"{split}.txt"
    if not listed.is_file():
        raise ValueError(f"no list of images {listed}; unpack VOC 2010 (VOCtrainval) under {root}")
    if not (root / "Annotations_Part").is_dir():
        raise ValueError(f"no folder {root / 'Annotations_Part'}; unpack PASCAL-Part's trainval.tar.gz under {root}")
    nested_rule, flat_rule = part_rule(), part_rule(vlpart=True)
    for stem in dict.fromkeys(read_text(listed, "list of images").split()):
        file = root / "Annotations_Part" / f"{stem}.mat"
        if not file.is_file():
            notes["images of the list without a .mat file (left out)"] += 1
            continue
        if not (voc / "JPEGImages" / f"{stem}.jpg").is_file():
            raise ValueError(f"{file.name} has no image {voc / 'JPEGImages' / stem}.jpg; unpack VOC 2010 under {root}")
        found = _image(file, nested_rule, flat_rule)
        if found is None:
            notes["images without an object (left out)"] += 1
        else:
            yield found


def _image(file: Path, nested_rule: PartRule, flat_rule: PartRule) -> PascalImage | None:
    objects = [raw for raw in read_objects(file) if raw.mask.any()]
    if not objects:
        return None
    nested = tuple(object_region(raw, nested_rule, file) for raw in objects)
    by_vlpart = [part for raw in objects for part in object_region(raw, flat_rule, file).parts]
    height, width = objects[0].mask.shape
    image = AnnotatedImage(f"{file.stem}.jpg", height, width, nested, image_id=int(file.stem.replace("_", "")))
    flat = replace(image, objects=(), loose=tuple(_vlpart_box(part) for part in by_vlpart))
    return PascalImage(image, flat, tuple(region.name for region in nested))


def _vlpart_box(part: Region) -> Region:
    x, y, w, h = part.box
    return replace(part, box=(x, y, w - 1, h - 1), area=(w - 1) * (h - 1))


def flat_images(images: Iterable[PascalImage], *, only_one: bool = False) -> Iterator[AnnotatedImage]:
    """Images with at least one part; with `only_one`, those that show one object in all."""
    for image in images:
        if image.flat.loose and not (only_one and len(image.kinds) > 1):
            yield image.flat


def part_categories(objects: Collection[str]) -> list[dict[str, Any]]:
    """The parts of some objects, numbered from 1 in the order of the 93."""
    names = [f"{name}:{part}" for name, parts in part_rule().objects.items() if name in objects for part in parts]
    return [{"id": number, "name": name, "level": "part"} for number, name in enumerate(names, start=1)]


def main(argv: Argv = None) -> int:
    """`datasets/prepare_pascal_part_93.py`."""
    parser = ArgumentParser(
        description="Pascal-Part-93: .mat files and VOC 2010 -> VLPart's flat files and joint ones with objects."
    )
    add_raw_and_splits(parser, "the folder pascal_part of the data sets' root")
    return run(parser, argv, _prepare)


def _prepare(arguments: argparse.Namespace) -> Iterator[str]:
    for root, split, notes in each_split(arguments, "pascal_part"):
        images = list(shown(read_pascal_part_93(root, split, notes)))
        for chosen, name, categories, what in _files(images, split):
            listed = list(chosen)
            if images and not listed:  # in a small share of the data
                yield f"{root / name}: not written, no image is left for it"
                continue
            yield from write_named(listed, root / name, categories, f"Pascal-Part-93, {what}", notes, arguments)


def _files(
    images: list[PascalImage], split: str
) -> Iterator[tuple[Iterable[AnnotatedImage], str, list[dict[str, Any]], str]]:
    """Images, file name, categories and description of each file of a split."""
    objects = part_rule().objects
    base, novel = (split_objects("pascal_part", name) for name in ("base", "novel"))
    all_parts, base_parts = part_categories(list(objects)), part_categories(base)
    nested = [image.nested for image in images]
    yield flat_images(images), f"{split}.json", all_parts, "parts as VLPart has them"
    yield nested, f"voc2010_{split}_joint.json", categories_of(objects), "20 objects and their parts"
    if split == "train":
        flat = without_objects(flat_images(images), novel)  # images of novel objects stay, empty
        yield flat, "train_base.json", base_parts, "base parts as VLPart has them"
        one = list(flat_images(images, only_one=True))
        yield one, "train_one.json", all_parts, "parts, images of one object"
        base_one = [image for image in one if not _shows(image, novel)]
        yield base_one, "train_base_one.json", base_parts, "base parts, images of one object"
        base_objects = {name: parts for name, parts in objects.items() if name in base}
        left = without_objects(nested, [name for name in objects if name not in base])
        yield left, "train_base_joint.json", categories_of(base_objects), "base objects and their parts"


def _shows(image: AnnotatedImage, objects: Collection[str]) -> bool:
    return any(part.name.partition(":")[0] in objects for part in image.loose)
