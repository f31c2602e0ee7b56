#!/usr/bin/env python
"""Writes the triples of a data set with expressions: image, mask, caption and level (docs/datasets.md), one row for
each mask that a sentence means. Sentences that mean nothing have no mask and are left out.

    python tools/write_triples.py --import unires --dataset toy_mres_train --images 400 --output triples/train.jsonl
    python tools/write_triples.py --config-file FILE --dataset my_parts_train --output my_parts/triples.parquet

File names are relative to the data set's own folder of images; scenes that are drawn are written to `images/` beside
the triples.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from partglee.basics.arguments import ArgumentParser
from partglee.basics.files import whole_file
from partglee.basics.masks import encode_segmentation
from partglee.basics.plugins import load_plugins
from partglee.config import load_config, recipe_in
from partglee.data.annotations.triples import write_triples
from partglee.data.catalog import get_dataset, register_custom
from partglee.data.images import read_image
from partglee.data.records import ImageRecord
from partglee.engine.recipe import get_recipe


def main(arguments: list[str] | None = None) -> int:
    """Write the file and print what is in it."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, metavar="NAME")
    parser.add_argument("--output", required=True, type=Path, metavar="FILE", help=".jsonl or .parquet")
    parser.add_argument("--images", type=int, metavar="N", help="the first N images with sentences; default: all")
    parser.add_argument("--config-file", metavar="FILE", help="its DATASETS.CUSTOM are names too")
    parser.add_argument("--import", dest="imports", action="append", default=[], metavar="MODULE")
    given = parser.parse_args(arguments)
    if given.images is not None and given.images < 1:
        parser.error(f"--images must be at least 1, got {given.images}")
    try:
        counts = write(given)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(f"{given.output}: {counts['images']} images, {counts['object']} masks of objects, {counts['part']} of parts")
    return 0


def write(given: argparse.Namespace) -> Counter[str]:
    """How many images and masks of each level were written."""
    load_plugins(given.imports)
    if given.config_file:
        register_custom(load_config(given.config_file, defaults=get_recipe(recipe_in(given.config_file, [])).defaults))
    spec = get_dataset(given.dataset)
    records = spec.read()
    counts: Counter[str] = Counter()

    def rows() -> Iterator[dict[str, Any]]:
        for row in range(len(records)):
            if counts["images"] == given.images:
                return
            record = records[row]
            if all(said.no_target for said in record.expressions):
                continue
            counts["images"] += 1
            name = _file_name(record, spec.image_root, given.output.parent / "images")
            for triple in triples(record, name):
                counts[triple["level"]] += 1
                yield triple
        if not counts["images"]:
            raise ValueError(
                f"data set {spec.name!r} has no sentence that means anything; make them by rule (EXPRESSIONS: rules)"
            )

    write_triples(rows(), given.output)
    return counts


def triples(record: ImageRecord, name: str) -> Iterator[dict[str, Any]]:
    """Rows of one image: each sentence with each mask that it means; crowds are not meant.

    Args:
        name: of the image file, relative to the folder of images.

    Raises:
        ValueError: for a target without a mask.
    """
    height, width = record.height, record.width
    if 0 in (height, width):
        height, width = read_image(record.source).shape[:2]
    for said in record.expressions:
        for thing in record.targets(said):
            if thing.crowd:
                continue
            what = f"image '{record.file}', annotation {thing.annotation_id}"
            yield {
                "image": name, "height": height, "width": width, "caption": said.text,
                "mask": encode_segmentation(thing.segmentation, (height, width), what=what),
                "level": "part" if said.of_parts else "object",
            }  # fmt: skip


def _file_name(record: ImageRecord, folder: Path, drawn: Path) -> str:
    if record.pixels is None:
        return record.file.relative_to(folder).as_posix()
    name = f"{record.file.name}.png"
    with whole_file(drawn / name) as beside:
        Image.fromarray(record.pixels).save(beside, format="PNG")
    return name


if __name__ == "__main__":
    raise SystemExit(main())
