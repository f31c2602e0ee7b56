"""The command lines of the prepare scripts of the part benchmarks, which write a file for each registered name."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm  # type: ignore[import-untyped, unused-ignore]

from partglee.data.prepare import ade20k_part_234 as ade
from partglee.data.prepare import pascal_part_93 as pascal
from partglee.data.prepare import pascal_part_116 as pascal_116
from partglee.data.prepare.files import AnnotatedImage, without_objects, write_set
from partglee.data.prepare.mapping import categories_of
from partglee.data.prepare.part_maps import map_categories, part_labels
from partglee.data.prepare.partimagenet import (
    joint_categories,
    part_categories,
    parts_alone,
    read_partimagenet,
)
from partglee.data.prepare.partimagenet_seg import read_partimagenet_seg
from partglee.data.prepare.pascal_part import part_rule
from partglee.data.spec import datasets_root
from partglee.structures.vocabulary_files import split_objects

Argv = Sequence[str] | None
T = TypeVar("T")


def partimagenet_main(argv: Argv = None) -> int:
    """`datasets/prepare_partimagenet.py`."""
    parser = argparse.ArgumentParser(
        description="PartImageNet -> hierarchical COCO JSON, parts alone and with the objects they are parts of."
    )
    parser.add_argument("--release", choices=("original", "seg"), default="original", help="which one is there")
    _add_common(parser, "the folder partimagenet or PartImageNet_Seg of the data sets' root", ("train", "val"))
    return _run(parser, argv, _partimagenet)


def _partimagenet(arguments: argparse.Namespace) -> None:
    seg = arguments.release == "seg"
    root = arguments.raw or datasets_root() / ("PartImageNet_Seg" if seg else "partimagenet")
    for split in arguments.splits:
        notes: Counter[str] = Counter()
        if seg:
            found = read_partimagenet_seg(root, split, notes)
            _write(found, root / f"{split}_joint.json", joint_categories(), "PartImageNet_Seg", notes, arguments)
            continue
        images = list(_shown(read_partimagenet(root / f"{split}.json", notes)))
        alone = map(parts_alone, images)
        _write(alone, root / f"{split}_format.json", part_categories(), "PartImageNet, parts", notes, arguments)
        file = root / f"partimagenet_{split}_joint.json"
        _write(images, file, joint_categories(), "PartImageNet, objects and parts", notes, arguments)


def pascal_part_93_main(argv: Argv = None) -> int:
    """`datasets/prepare_pascal_part_93.py`."""
    parser = argparse.ArgumentParser(
        description="Pascal-Part-93: .mat files and VOC 2010 -> VLPart's flat files and joint ones with objects."
    )
    _add_common(parser, "the folder pascal_part of the data sets' root", ("train", "val"))
    return _run(parser, argv, _pascal_part_93)


def _pascal_part_93(arguments: argparse.Namespace) -> None:
    for split in arguments.splits:
        _pascal_split(arguments.raw or datasets_root() / "pascal_part", split, arguments)


def _pascal_split(root: Path, split: str, arguments: argparse.Namespace) -> None:
    objects = part_rule().objects
    base, novel = (split_objects("pascal_part", name) for name in ("base", "novel"))
    all_parts, base_parts = pascal.part_categories(list(objects)), pascal.part_categories(base)
    notes: Counter[str] = Counter()
    images = list(_shown(pascal.read_pascal_part_93(root, split, notes)))
    nested = [image.nested for image in images]

    def write(found: Iterable[AnnotatedImage], name: str, categories: list[dict[str, Any]], what: str) -> None:
        chosen = list(found)
        if images and not chosen:  # in a small share of the data
            print(f"{root / name}: not written, no image is left for it")
            return
        _write(chosen, root / name, categories, f"Pascal-Part-93, {what}", notes, arguments)

    write(pascal.flat_images(images), f"{split}.json", all_parts, "parts as VLPart has them")
    write(nested, f"voc2010_{split}_joint.json", categories_of(objects), "20 objects and their parts")
    if split == "train":
        flat = without_objects(pascal.flat_images(images), novel)  # images of novel objects stay, empty
        write(flat, "train_base.json", base_parts, "base parts as VLPart has them")
        one = list(pascal.flat_images(images, only_one=True))
        write(one, "train_one.json", all_parts, "parts, images of one object")
        base_one = [image for image in one if not _shows(image, novel)]
        write(base_one, "train_base_one.json", base_parts, "base parts, images of one object")
        base_objects = {name: parts for name, parts in objects.items() if name in base}
        left = without_objects(nested, [name for name in objects if name not in base])
        write(left, "train_base_joint.json", categories_of(base_objects), "base objects and their parts")


def _shows(image: AnnotatedImage, objects: Sequence[str]) -> bool:
    return any(part.name.partition(":")[0] in objects for part in image.loose)


def pascal_part_116_main(argv: Argv = None) -> int:
    """`datasets/prepare_pascal_part_116.py`."""
    parser = argparse.ArgumentParser(
        description="Pascal-Part-116 -> hierarchical COCO JSON: 20 objects, their parts, and the base objects alone."
    )
    mats = datasets_root() / "pascal_part" / "Annotations_Part"
    parser.add_argument(
        "--instances", type=Path, default=mats, metavar="DIR",
        help="PASCAL-Part's .mat files, which tell instances apart; used where they are (default: %(default)s)",
    )  # fmt: skip
    _add_common(parser, "the folder PascalPart116 of the data sets' root", ("train", "val"))
    return _run(parser, argv, _pascal_part_116)


def _pascal_part_116(arguments: argparse.Namespace) -> None:
    root = arguments.raw or datasets_root() / "PascalPart116"
    for split in arguments.splits:
        notes: Counter[str] = Counter()
        images = list(_shown(pascal_116.read_pascal_part_116(root, split, notes, instances=arguments.instances)))
        _write_maps(images, root, "pascalvoc", split, "pascal_part_116", pascal_116.object_names(), notes, arguments)


def ade20k_part_234_main(argv: Argv = None) -> int:
    """`datasets/prepare_ade20k_part_234.py`."""
    parser = argparse.ArgumentParser(
        description="ADE20K-Part-234 -> hierarchical COCO JSON: 44 objects, their parts, and the base objects alone."
    )
    _add_common(parser, "the folder ADE20KPart234 of the data sets' root", ("train", "val"))
    return _run(parser, argv, _ade20k_part_234)


def _ade20k_part_234(arguments: argparse.Namespace) -> None:
    root = arguments.raw or datasets_root() / "ADE20KPart234"
    for split in arguments.splits:
        notes: Counter[str] = Counter()
        images = list(_shown(ade.read_ade20k_part_234(root, split, notes)))
        _write_maps(images, root, "ade20k", split, "ade20k_part_234", ade.object_names(), notes, arguments)


def _write_maps(
    images: Sequence[AnnotatedImage],
    root: Path,
    prefix: str,
    split: str,
    vocabulary: str,
    objects: Sequence[str],
    notes: Mapping[str, int],
    arguments: argparse.Namespace,
) -> None:
    """The joint file of a split, and of the training split the base objects alone."""
    labels = part_labels(vocabulary)
    file = root / f"{prefix}_joint_{split}.json"
    _write(images, file, map_categories(objects, labels), f"{vocabulary}, objects and parts", notes, arguments)
    if split == "train":
        base = [name for name in objects if name in split_objects(vocabulary, "base")]
        left = without_objects(images, split_objects(vocabulary, "novel"))
        file = root / f"{prefix}_base_train.json"
        _write(left, file, map_categories(base, labels), f"{vocabulary}, base objects and parts", notes, arguments)


def _add_common(parser: argparse.ArgumentParser, default: str, splits: Sequence[str]) -> None:
    parser.add_argument("raw", nargs="?", type=Path, help=f"raw folder (default: {default}); the files go there too")
    parser.add_argument("--splits", nargs="+", default=list(splits), metavar="SPLIT", help="default: %(default)s")
    parser.add_argument("--replace", action="store_true", help="overwrite files that came from elsewhere")


def _shown(images: Iterable[T]) -> Iterable[T]:
    bar: Iterable[T] = tqdm(images, unit=" images", disable=not sys.stderr.isatty())
    return bar


def _write(
    images: Iterable[AnnotatedImage],
    file: Path,
    categories: Sequence[Mapping[str, Any]],
    description: str,
    notes: Mapping[str, int],
    arguments: argparse.Namespace,
) -> None:
    """Write one file and print what is in it."""
    content = write_set(
        _shown(images), file, categories=categories, description=description, notes=notes, replace=arguments.replace
    )
    level = {entry["id"]: entry["level"] for entry in categories}
    parts = sum(level[entry["category_id"]] == "part" for entry in content["annotations"])
    objects = len(content["annotations"]) - parts
    text = f"{file}: {len(content['images'])} images, {objects} objects, {parts} parts"
    if "object" in level.values():
        text += f", {content['info']['parts_without_parent']} parts without a parent"
    print(text)
    for what, count in notes.items():
        print(f"  {count} x {what}")


def _run(parser: argparse.ArgumentParser, argv: Argv, work: Callable[[argparse.Namespace], None]) -> int:
    arguments = parser.parse_args(argv)
    try:
        work(arguments)
    except (ValueError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0
