"""`partglee data`: the data sets on disk, checked and drawn."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from partglee.cli.arguments import add_data_config, add_import
from partglee.cli.data_check import run_check, run_show


def add_parser(commands: Any) -> None:
    """Add this command to the command line."""
    parser = commands.add_parser("data", help="data sets: list, show, check, draw; toy scenes")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    listed = actions.add_parser("list", help="data sets known by name, and which of their files are there")
    listed.add_argument("--count", action="store_true", help="read the files and compare with the published counts")
    add_data_config(listed)
    add_import(listed)
    listed.set_defaults(run=run_list)

    show = actions.add_parser("show", help="one data set: files, what it supervises, how many images have each name")
    show.add_argument("name", metavar="NAME")
    _add_drawing(show, samples=4)
    add_data_config(show)
    add_import(show)
    show.set_defaults(run=run_show)

    check = actions.add_parser(
        "check", help="what is wrong in a hierarchical COCO file (docs/datasets.md); status 1 when it has errors"
    )
    check.add_argument("source", metavar="FILE", help="annotation file, or the name of a data set")
    check.add_argument(
        "--images", type=Path, metavar="DIR",
        help="folder of the images, whose files are checked too (default: that of the data set; of a FILE its own "
        "folder, the one above, or images/ in either, if the first images are there)",
    )  # fmt: skip
    _add_drawing(check, samples=10)
    check.add_argument(
        "--weights", metavar="FILE", help="also say which of the names these weights lack, each with what it is read as"
    )
    add_data_config(check)
    add_import(check)
    check.set_defaults(run=run_check)

    converted = actions.add_parser(
        "convert", help="annotations from one tool's format to another's, with what belongs to what (docs/formats.md)"
    )
    converted.add_argument("source", type=Path, metavar="IN", help="a file, or a folder of labelme or FiftyOne")
    converted.add_argument("target", type=Path, metavar="OUT", help="a file, or a new folder")
    converted.add_argument("--from", dest="from_format", metavar="FORMAT", help="default: what IN looks like")
    converted.add_argument(
        "--to", dest="to_format", metavar="FORMAT",
        help="coco, cvat, labelstudio, labelme, fiftyone or supervision; default: by the ending of OUT: .json is coco, "
        ".xml cvat",
    )  # fmt: skip
    converted.add_argument("--images", type=Path, metavar="DIR", help="to read sizes that IN does not say")
    converted.add_argument(
        "--part-names", choices=("keep", "full", "plain"), default="keep",
        help="full: car:wheel; plain: wheel (default: as they are)",
    )  # fmt: skip
    converted.set_defaults(run=run_convert)

    toy = actions.add_parser("toy", help="write toy scenes: the data sets toy_train and toy_val")
    toy.add_argument("--output", type=Path, metavar="DIR", help="default: toy/ under the root of data sets")
    toy.add_argument(
        "--images", type=int, default=2000, metavar="N", help="of training; a tenth as many for validation"
    )
    toy.add_argument("--size", type=int, nargs=2, default=(160, 160), metavar=("H", "W"))
    toy.set_defaults(run=run_toy)


def _add_drawing(parser: argparse.ArgumentParser, *, samples: int) -> None:
    parser.add_argument(
        "--draw", type=Path, metavar="DIR",
        help="folder for pictures of some images with their hierarchy (default: NAME_pictures in this folder)",
    )  # fmt: skip
    parser.add_argument("--no-draw", action="store_true", help="do not draw")
    parser.add_argument(
        "--samples", "--number", type=int, default=samples, metavar="N", help="pictures (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N",
        help="of the choice from a data set (default: %(default)s); of a FILE images from all over it are drawn",
    )  # fmt: skip


def run_convert(arguments: argparse.Namespace) -> int:
    """Convert, and say what was converted and what was left out."""
    from partglee.data.formats import convert

    done = convert(
        arguments.source, arguments.target, from_format=arguments.from_format, to_format=arguments.to_format,
        images=arguments.images, part_names=arguments.part_names,
    )  # fmt: skip
    print(f"{done.text()}\n{arguments.target}")
    return 0


def run_list(arguments: argparse.Namespace) -> int:
    """Print one line for each data set."""
    from partglee.data import datasets_root, get_dataset, list_datasets
    from partglee.data.spec import missing_files

    print(f"root: {datasets_root().resolve()}")
    width = max(len(name) for name in list_datasets())
    for name in list_datasets():
        spec = get_dataset(name)
        missing = missing_files(spec)
        text = f"missing: {missing.pop('annotations')}" if "annotations" in missing else str(spec.annotation_path)
        there = text == str(spec.annotation_path)
        if there:
            text += "".join(f", missing: {path}" for path in missing.values())
        if there and arguments.count:
            text += f", {_counted(spec)}"
        else:
            text += "".join(f", {number} images {source}" for number, source in _images_told(spec))
        print(f"{name:<{width}}  {text}")
    return 0


def _images_told(spec: Any) -> list[tuple[int, str]]:
    return [told for what, told in spec.counts.told().items() if what == "images"]


def _counted(spec: Any) -> str:
    """What the files hold beside the expected counts; why they cannot be read, where they cannot."""
    from partglee.data.checks.datasets import held_by

    try:
        records = spec.read()
    except ValueError as error:
        return f"NOT READABLE: {error}"
    held = held_by(records) or {"images": len(records)}  # annotations of label maps: `check` counts them
    return ", ".join(compared.text for compared in spec.counts.beside(held))


def run_toy(arguments: argparse.Namespace) -> int:
    """Write both splits."""
    from partglee.data import datasets_root
    from partglee.testing.toy import TRAIN_SEED, VAL_SEED, write_toy_dataset

    folder = arguments.output or datasets_root() / "toy"
    number = {"train": arguments.images, "val": max(1, arguments.images // 10)}
    for name, seed in (("train", TRAIN_SEED), ("val", VAL_SEED)):
        file = write_toy_dataset(folder, number[name], seed, tuple(arguments.size), name=name)
        print(f"{file}: {number[name]} scenes of {arguments.size[0]} x {arguments.size[1]} pixels")
    return 0
