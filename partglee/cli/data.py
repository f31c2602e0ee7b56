"""`partglee data`: the data sets on disk, checked and drawn."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    """Add this command to the command line."""
    parser = commands.add_parser("data", help="data sets: list, show, check, draw; toy scenes")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    listed = actions.add_parser("list", help="data sets known by name, and which of their files are there")
    listed.add_argument("--count", action="store_true", help="read the files and compare with the published counts")
    listed.set_defaults(run=run_list)

    show = actions.add_parser("show", help="one data set: files, what it supervises, how many images have each name")
    show.add_argument("name", metavar="NAME")
    show.set_defaults(run=run_show)

    check = actions.add_parser(
        "check", help="what is wrong in a hierarchical COCO file (docs/datasets.md); status 1 when it has errors"
    )
    check.add_argument("source", metavar="FILE", help="annotation file, or the name of a data set")
    check.add_argument("--images", type=Path, metavar="DIR", help="folder of the images; their files are checked too")
    check.add_argument(
        "--draw", type=Path, metavar="DIR", help="draw some images with their hierarchy into this folder"
    )
    check.add_argument("--number", type=int, default=10, metavar="N", help="images to draw (default: %(default)s)")
    check.set_defaults(run=run_check)

    toy = actions.add_parser("toy", help="write toy scenes: the data sets toy_train and toy_val")
    toy.add_argument("--output", type=Path, metavar="DIR", help="default: toy/ under the root of data sets")
    toy.add_argument(
        "--images", type=int, default=2000, metavar="N", help="of training; a tenth as many for validation"
    )
    toy.add_argument("--size", type=int, nargs=2, default=(160, 160), metavar=("H", "W"))
    toy.set_defaults(run=run_toy)


def run_list(arguments: argparse.Namespace) -> int:
    """Print one line for each data set."""
    from partglee.data import datasets_root, get_dataset, list_datasets

    print(f"root: {datasets_root().resolve()}")
    width = max(len(name) for name in list_datasets())
    for name in list_datasets():
        spec = get_dataset(name)
        there = spec.annotation_path.exists()
        text = str(spec.annotation_path) if there else f"missing: {spec.annotation_path}"
        if there and not spec.image_root.is_dir():
            text += f", images missing: {spec.image_root}"
        if there and arguments.count:
            text += f", {_counted(spec)}"
        elif spec.num_images is not None:
            text += f", {spec.num_images} images published"
        print(f"{name:<{width}}  {text}")
    return 0


def _counted(spec: Any) -> str:
    """What the files hold beside the published counts; why they cannot be read, where they cannot."""
    try:
        records = spec.read()
    except ValueError as error:
        return f"NOT READABLE: {error}"
    images = _beside(len(records), "images", spec.num_images)
    columns = [part.columns for part in getattr(records, "shards", (records,)) if hasattr(part, "columns")]
    if not columns:  # label maps: their annotations are counted by reading all of them
        return images
    return f"{images}, {_beside(sum(len(c.annotation_id) for c in columns), 'annotations', spec.num_annotations)}"


def _beside(found: int, what: str, published: int | None) -> str:
    return f"{found} {what}" + ("" if published in (None, found) else f" OF {published} PUBLISHED")


def run_show(arguments: argparse.Namespace) -> int:
    """Print one data set."""
    from partglee.data import get_dataset

    spec = get_dataset(arguments.name)
    print(f"{spec.name}\n  annotations: {spec.annotation_path}\n  images: {spec.image_root}")
    levels = [name for name, on in (("objects", spec.supervises_objects), ("parts", spec.supervises_parts)) if on]
    print(f"  supervises: {', '.join(levels)}; evaluator: {spec.evaluator or 'none'}")
    print(f"  background: objects {spec.object_background}, parts {spec.part_background}")
    records = spec.read()
    vocabulary = records.vocabulary
    objects: Counter[int] = Counter()
    parts: Counter[int] = Counter()
    for index in range(len(records)):
        of_objects, of_parts = records.labels(index)
        objects.update(of_objects)
        parts.update(of_parts)
    published = "" if spec.num_images is None else f" ({spec.num_images} published)"
    print(f"  {len(records)} images{published}; images with each name:")
    for row, name in enumerate(vocabulary.object_names):
        columns = vocabulary.part_columns(name)
        of_object = ", ".join(f"{vocabulary.part_names[column]} {parts[column]}" for column in columns)
        print(f"    {name} {objects[row]}" + (f": {of_object}" if of_object else ""))
    return 0


def run_check(arguments: argparse.Namespace) -> int:
    """Print a report, and draw; status 1 when there are errors."""
    from partglee.data.files import read_json
    from partglee.data.validate import validate

    path, images, path_parts = _files(arguments)
    if arguments.draw is not None and images is None:
        raise ValueError("--draw needs the pictures: name their folder with --images DIR")
    content = read_json(path, "annotation file")
    for entry in content["images"] if path_parts else ():
        entry["file_name"] = "/".join(entry["file_name"].split("/")[-path_parts:])
    report = validate(content, images=images, progress=sys.stderr.isatty())
    print(f"{path}\n{report.text()}")
    if arguments.draw is not None and images is not None:
        from partglee.visualization.annotations import draw_annotations

        drawn = draw_annotations(content, images, arguments.draw, number=arguments.number)
        print(f"drew {len(drawn)} images into {arguments.draw}")
    return 1 if report.errors else 0


def _files(arguments: argparse.Namespace) -> tuple[Path, Path | None, int]:
    """Annotation file and image folder of what the user named; how many parts of image names count, 0 = all."""
    from partglee.data import get_dataset, list_datasets

    path = Path(arguments.source)
    if path.is_file():
        return path, arguments.images, 0
    if path.suffix == ".json" and arguments.source not in list_datasets():
        raise ValueError(f"no file {path}; give an annotation file or the name of a data set")
    spec = get_dataset(arguments.source)
    if spec.annotation_path.is_dir():
        if not any(spec.annotation_path.glob("*.json")):
            raise ValueError(
                f"{spec.name} is made of label maps, {spec.annotation_path}; check the joint file that the prepare "
                "script writes of them"
            )
        raise ValueError(
            f"{spec.name} lies in several files; name one of {spec.annotation_path / '*.json'}, with --images "
            f"{spec.image_root}"
        )
    if not spec.annotation_path.is_file():
        raise ValueError(f"{spec.name} has no file {spec.annotation_path}; datasets/README.md says how to get it")
    return spec.annotation_path, arguments.images or spec.image_root, spec.options.get("path_parts", 0)


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
