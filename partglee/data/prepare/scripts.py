"""The command lines of `datasets/prepare_*.py`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm  # type: ignore[import-untyped, unused-ignore]

from partglee.basics.files import read_json
from partglee.data.prepare.car_parts import read_car_parts
from partglee.data.prepare.clothing import read_clothing
from partglee.data.prepare.coco import read_coco
from partglee.data.prepare.files import AnnotatedImage, write_splits
from partglee.data.prepare.mapping import categories_of, load_mapping
from partglee.data.prepare.pascal_part import part_rule, read_pascal_part
from partglee.data.spec import datasets_root

Argv = Sequence[str] | None


def car_parts_main(argv: Argv = None) -> int:
    """`datasets/prepare_car_parts.py`."""
    parser = _parser("Car-Parts", "car_parts", raw="trainingset")
    _add_mapping(parser, "car_parts")
    return _run(parser, argv, _car_parts)


def clothing_main(argv: Argv = None) -> int:
    """`datasets/prepare_clothing.py`."""
    parser = _parser("Clothing Co-Parsing", "clothing", raw="")
    _add_mapping(parser, "clothing")
    return _run(parser, argv, _clothing)


def pascal_part_main(argv: Argv = None) -> int:
    """`datasets/prepare_pascal_part.py`."""
    parser = _parser("PASCAL-Part with its nesting", "pascal_part_nested", raw="Annotations_Part")
    parser.add_argument("--images", type=Path, help="folder of the images (default: JPEGImages beside RAW)")
    return _run(parser, argv, _pascal_part)


def coco_main(argv: Argv = None) -> int:
    """`datasets/prepare_coco.py`."""
    parser = argparse.ArgumentParser(
        description="Joins COCO instances files into train.json and val.json, each image once. The full COCO 2017 "
        "needs no preparation: its own files are read as they are. This is for subsets."
    )
    parser.add_argument(
        "sources", nargs="+", metavar="FILE=FOLDER",
        help="an instances file and its image folder, relative to the image root (coco/)",
    )  # fmt: skip
    _add_output(parser, "coco")
    return _run(parser, argv, _coco)


def _car_parts(arguments: argparse.Namespace) -> dict[str, Path]:
    mapping = load_mapping(arguments.mapping)
    images = read_car_parts(arguments.raw, mapping)
    return _write(images, arguments, categories=mapping.categories(), description="Car-Parts")


def _clothing(arguments: argparse.Namespace) -> dict[str, Path]:
    mapping = load_mapping(arguments.mapping)
    images = read_clothing(arguments.raw, mapping)
    return _write(images, arguments, categories=mapping.categories(), description="Clothing Co-Parsing")


def _pascal_part(arguments: argparse.Namespace) -> dict[str, Path]:
    rule = part_rule()
    images = arguments.images or arguments.raw.parent / "JPEGImages"
    found = read_pascal_part(arguments.raw, images, rule)
    return _write(found, arguments, categories=categories_of(rule.objects), description="PASCAL-Part, nested")


def _coco(arguments: argparse.Namespace) -> dict[str, Path]:
    sources: list[tuple[Path, str]] = []
    for text in arguments.sources:
        path, _, folder = text.rpartition("=")
        if not path:
            raise ValueError(f"{text!r} must be FILE=FOLDER, for example annotations/instances_val2017.json=val2017")
        sources.append((Path(path), folder.strip("/")))
    categories, images = read_coco(sources)
    return _write(images, arguments, categories=categories, description="COCO")


def _parser(title: str, folder: str, *, raw: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=f"{title} -> hierarchical COCO JSON: train.json and val.json.")
    default = datasets_root() / folder / raw
    parser.add_argument("raw", nargs="?", type=Path, default=default, help=f"raw folder (default: {default})")
    _add_output(parser, folder)
    return parser


def _add_output(parser: argparse.ArgumentParser, folder: str) -> None:
    default = datasets_root() / folder
    parser.add_argument("--output", type=Path, default=default, help=f"where the files go (default: {default})")
    parser.add_argument("--val-share", type=float, default=0.1, help="last share of the images, kept for validation")


def _add_mapping(parser: argparse.ArgumentParser, name: str) -> None:
    parser.add_argument(
        "--mapping", default=name, help="YAML file of names, or the built-in one (default: %(default)s)"
    )


def _write(
    images: Iterable[AnnotatedImage],
    arguments: argparse.Namespace,
    *,
    categories: Sequence[Mapping[str, Any]],
    description: str,
) -> dict[str, Path]:
    shown = tqdm(images, unit=" images", disable=not sys.stderr.isatty())
    return write_splits(
        shown, arguments.output, categories=categories, description=description, val_share=arguments.val_share
    )


def _run(parser: argparse.ArgumentParser, argv: Argv, work: Callable[[argparse.Namespace], Mapping[str, Path]]) -> int:
    arguments = parser.parse_args(argv)
    try:
        paths = work(arguments)
    except (ValueError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    for split, path in paths.items():
        content = read_json(path, "written file")
        level = {entry["id"]: entry["level"] for entry in content["categories"]}
        parts = sum(level[entry["category_id"]] == "part" for entry in content["annotations"])
        print(
            f"{split}: {path}: {len(content['images'])} images, {len(content['annotations']) - parts} objects, "
            f"{parts} parts"
        )
    print("Look at them: partglee data check FILE")
    return 0
