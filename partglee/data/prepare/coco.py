"""COCO instances: one or more files with their image folders -> one file, each image once."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from partglee.basics.arguments import ArgumentParser
from partglee.basics.files import read_json
from partglee.data.annotations.values import flag
from partglee.data.prepare.command import Argv, add_output, run, write_apart, write_shares
from partglee.data.prepare.files import AnnotatedImage
from partglee.data.prepare.regions import Region
from partglee.data.segmentation import encode_segmentation


def read_coco(sources: Sequence[tuple[Path, str]]) -> tuple[list[dict[str, Any]], Iterator[AnnotatedImage]]:
    """Instances files with the image folder of each, relative to the common image root.

    An image that several files have (same file name) is taken from the first. Image ids stay COCO's.

    Returns:
        The categories with `level` "object", and the images, read one after the other.

    Raises:
        ValueError: for missing or damaged files, or files whose categories differ.
    """
    contents = [read_json(path, "COCO instances file") for path, _ in sources]
    if not contents:
        raise ValueError("no COCO instances file was given")
    found = [_names(content, path) for content, (path, _) in zip(contents, sources, strict=True)]
    names = found[0]
    for (path, _), others in zip(sources, found, strict=True):
        if others != names:
            raise ValueError(f"the categories of {path} are not those of {sources[0][0]}; prepare them apart")
    categories = [{"id": key, "name": names[key], "level": "object"} for key in sorted(names)]
    return categories, _images(contents, sources, names)


_WRONG = (KeyError, TypeError, ValueError, AttributeError, OverflowError)


def _names(content: Any, path: Path) -> dict[int, str]:
    try:
        for key in ("images", "annotations"):
            iter(content[key])
        return {entry["id"]: str(entry["name"]) for entry in content["categories"]}
    except _WRONG as error:
        raise ValueError(f"{path} is no COCO instances file ({error!r:.80}); see docs/datasets.md") from error


def _images(
    contents: Sequence[dict[str, Any]], sources: Sequence[tuple[Path, str]], names: dict[int, str]
) -> Iterator[AnnotatedImage]:
    seen: set[str] = set()
    for content, (path, folder) in zip(contents, sources, strict=True):
        of_image: dict[int, list[Region]] = defaultdict(list)
        sizes: dict[int, tuple[int, int]] = {}
        for image in content["images"]:
            try:
                sizes[image["id"]] = int(image["height"]), int(image["width"])
                str(image["file_name"]), int(image["id"])
            except _WRONG as error:
                raise ValueError(f"{path}: the entry of an image, {image!s:.80}, is not readable: {error!r}") from error
        for entry in content["annotations"]:
            try:
                of_image[entry["image_id"]].append(_region(entry, names, sizes))
            except _WRONG as error:
                raise ValueError(f"{path}: an annotation, {entry!s:.80}, is not readable: {error!r:.200}") from error
        for image in content["images"]:
            name = Path(str(image["file_name"])).name
            if name in seen:
                continue
            seen.add(name)
            yield AnnotatedImage(
                f"{folder}/{image['file_name']}" if folder else str(image["file_name"]),
                int(image["height"]), int(image["width"]), tuple(of_image[image["id"]]), image_id=int(image["id"]),
            )  # fmt: skip


def _region(entry: dict[str, Any], names: dict[int, str], sizes: dict[int, tuple[int, int]]) -> Region:
    what = f"annotation {entry.get('id')} of image {entry['image_id']}"
    x, y, width, height = (float(value) for value in entry["bbox"])
    return Region(
        names[entry["category_id"]], (x, y, width, height), float(entry["area"]),
        _compressed(entry.get("segmentation"), sizes.get(entry["image_id"], (0, 0)), what),
        crowd=flag(entry.get("iscrowd"), f"{what}: iscrowd"),
    )  # fmt: skip


def _compressed(segmentation: Any, size: tuple[int, int], what: str) -> Any:
    """Crowd regions have run lengths as lists of numbers; the common format has them compressed."""
    if isinstance(segmentation, dict):
        encoded = encode_segmentation(segmentation, size, what=what)
        return {"size": encoded["size"], "counts": encoded["counts"].decode("ascii")}
    return segmentation


def main(argv: Argv = None) -> int:
    """`datasets/prepare_coco.py`."""
    parser = ArgumentParser(
        description="Joins COCO instances files into train.json and val.json, each image once. The full COCO 2017 "
        "needs no preparation: its own files are read as they are. This is for subsets."
    )
    parser.add_argument(
        "sources", nargs="+", metavar="FILE=FOLDER",
        help="an instances file and its image folder, relative to the image root (coco/)",
    )  # fmt: skip
    parser.add_argument(
        "--val", nargs="+", default=[], metavar="FILE=FOLDER",
        help="val.json is these instead of a share of all; an image that they have is not trained with",
    )  # fmt: skip
    add_output(parser, "coco")
    return run(parser, argv, _prepare)


def _prepare(arguments: argparse.Namespace) -> Iterable[str]:
    held_out = _sources(arguments.val)
    categories, images = read_coco(held_out + _sources(arguments.sources))
    if not held_out:
        return write_shares(images, arguments, categories=categories, description="COCO")
    val = list(read_coco(held_out)[1])
    names = {image.file_name for image in val}
    train = [image for image in images if image.file_name not in names]
    return write_apart({"train": train, "val": val}, arguments.output, categories=categories, description="COCO")


def _sources(texts: Sequence[str]) -> list[tuple[Path, str]]:
    """(file, image folder) of each FILE=FOLDER."""
    sources: list[tuple[Path, str]] = []
    for text in texts:
        path, _, folder = text.rpartition("=")
        if not path:
            raise ValueError(f"{text!r} must be FILE=FOLDER, for example annotations/instances_val2017.json=val2017")
        sources.append((Path(path), folder.strip("/")))
    return sources
