"""PASCAL-Part (Chen et al., 2014): objects of the 20 VOC classes with the parts of each object, from `.mat` files."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from partglee.data.prepare.command import Argv, run, share_parser, write_shares
from partglee.data.prepare.files import AnnotatedImage
from partglee.data.prepare.mapping import categories_of
from partglee.data.prepare.raw_files import UNREADABLE, load_mat
from partglee.data.prepare.regions import Mask, Region, region_from_mask
from partglee.structures.vocabulary_files import FOLDER

RAW_OBJECTS = {  # spelling in the files -> VOC name
    "table": "dining table",
    "diningtable": "dining table",
    "pottedplant": "potted plant",
    "tvmonitor": "tv monitor",
}
NOT_WHEELS = ("chainwheel",)  # contains "wheel", is none


@dataclass(frozen=True, slots=True)
class PartRule:
    """Which part name a raw part becomes."""

    objects: Mapping[str, tuple[str, ...]]  # {object: part names}
    tokens: Mapping[str, str]  # part name -> its spelling inside raw names, where it differs
    dropped: tuple[str, ...] = NOT_WHEELS  # raw names that become nothing

    def __call__(self, name: str, raw: str) -> str | None:
        """The first part of the object whose token is inside the raw name ("lfleg" -> "leg"); None when none is."""
        if raw in self.dropped:
            return None
        for part in self.objects.get(name, ()):
            if self.tokens.get(part, part) in raw:
                return part
        return None


def part_rule(*, vlpart: bool = False) -> PartRule:
    """The 20 VOC objects with the 93 part names of VLPart's taxonomy.

    Args:
        vlpart: as VLPart's own conversion does it: a chainwheel is a wheel.
    """
    voc, parts = (_vocabulary(name) for name in ("voc", "pascal_part_93"))
    objects = {name: tuple(parts["objects"].get(name, ())) for name in voc["objects"]}
    return PartRule(objects, parts["raw_tokens"], () if vlpart else NOT_WHEELS)


def read_pascal_part(annotations: Path, images: Path, rule: PartRule) -> Iterator[AnnotatedImage]:
    """Images that have a `.mat` file; file names are relative to `images`.

    Left, right, upper, lower, front and back pieces are instances of one name, as in VLPart's conversion. Unlike there,
    every object is kept with its mask, and each part points to it. Parts are cut to the image; empty ones are dropped.

    Raises:
        ValueError: for missing or damaged files, or an object class that is not in VOC.
    """
    files = sorted(annotations.glob("*.mat"))
    if not files:
        raise ValueError(f"no .mat files in {annotations}; give the folder Annotations_Part of PASCAL-Part")
    for file in files:
        name = f"{file.stem}.jpg"
        if not (images / name).is_file():
            raise ValueError(f"{file.name} has no image {images / name}; give VOC2010's JPEGImages as the image folder")
        objects = list(read_objects(file))
        regions = [object_region(raw, rule, file) for raw in objects if raw.mask.any()]
        height, width = objects[0].mask.shape if objects else _image_size(images / name)
        yield AnnotatedImage(name, height, width, tuple(regions))


class RawObject(NamedTuple):
    """An object of a `.mat` file. H, W: size of the image."""

    kind: str  # as the file spells it
    mask: Mask  # (H, W)
    parts: list[tuple[str, Mask]]  # (raw part name, (H, W))


def read_objects(file: Path) -> Iterator[RawObject]:
    """The objects of a `.mat` file; ValueError when it is damaged or something else."""
    anno = load_mat(file, "anno")
    try:
        entries = np.atleast_1d(anno.objects)
        for entry in entries:
            parts = [
                (str(part.part_name), np.atleast_2d(part.mask).astype(bool))
                for part in np.atleast_1d(entry.parts)
                if hasattr(part, "part_name")  # an object without parts has an empty array
            ]
            yield RawObject(str(getattr(entry, "class")), np.atleast_2d(entry.mask).astype(bool), parts)
    except UNREADABLE as error:
        raise ValueError(f"{file} is not a PASCAL-Part annotation ({error}); download it again") from error


def object_region(raw: RawObject, rule: PartRule, file: Path) -> Region:
    """An object whose mask is not empty, with those of its parts that the rule names."""
    name = RAW_OBJECTS.get(raw.kind, raw.kind)
    if name not in rule.objects:
        raise ValueError(f"{file.name} has an object {raw.kind!r}, which is not one of VOC's {list(rule.objects)}")
    found: list[Region] = []
    for raw_part, mask in raw.parts:
        if mask.shape != raw.mask.shape:
            raise ValueError(f"{file.name}: part {raw_part!r} has shape {mask.shape}, its image {raw.mask.shape}")
        part = rule(name, re.sub(r"_\d+$", "", raw_part))
        if part is not None and mask.any():
            found.append(region_from_mask(f"{name}:{part}", mask))
    return region_from_mask(name, raw.mask, tuple(found))


def _image_size(file: Path) -> tuple[int, int]:
    from PIL import Image

    with Image.open(file) as image:
        return image.height, image.width


def _vocabulary(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    return content


def main(argv: Argv = None) -> int:
    """`datasets/prepare_pascal_part.py`."""
    parser = share_parser("PASCAL-Part with its nesting", "pascal_part_nested", raw="Annotations_Part")
    parser.add_argument("--images", type=Path, help="folder of the images (default: JPEGImages beside RAW)")
    return run(parser, argv, _prepare)


def _prepare(arguments: argparse.Namespace) -> Iterable[str]:
    rule = part_rule()
    images = read_pascal_part(arguments.raw, arguments.images or arguments.raw.parent / "JPEGImages", rule)
    return write_shares(images, arguments, categories=categories_of(rule.objects), description="PASCAL-Part, nested")
