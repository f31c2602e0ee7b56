#!/usr/bin/env python
"""Photos without some names for training, photos with them for scoring: how well are names found that were never seen?

    python tools/hold_out_names.py coco/train.json coco/val.json --seen seen.json --unseen unseen.json \\
        --names airplane train "parking meter" cat bear suitcase frisbee snowboard

reads COCO-style files whose photos lie in one folder. A photo that has an annotation of one of the names, or of a part
of it ("cat:head"), goes to `--unseen` with all its annotations, any other to `--seen`, whose categories lack the names.
docs/training_log.md says how weights that were trained without them are scored.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from partglee.basics.arguments import ArgumentParser
from partglee.basics.files import read_json, write_json
from partglee.basics.names import name_key

Document = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write both files, and say what is in them."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", type=Path, metavar="SOURCE.json")
    parser.add_argument("--names", nargs="+", required=True, help="objects that are left out of training")
    parser.add_argument("--seen", type=Path, required=True, help="file of the photos without them")
    parser.add_argument("--unseen", type=Path, help="file of the photos with them")
    given = parser.parse_args(arguments)
    try:
        whole = joined([read_json(source, "annotations") for source in given.sources])
    except ValueError as error:
        parser.error(str(error))
    except (KeyError, TypeError) as error:
        parser.error(f"no COCO-style files, or an id of an annotation that nothing has: {error!r}")
    missing = {name_key(name) for name in given.names} - {name_key(c["name"]) for c in whole["categories"]}
    if missing:
        print(f"no category of these files: {', '.join(sorted(missing))}", file=sys.stderr)
    for path, document in zip((given.seen, given.unseen), held_out(whole, given.names), strict=True):
        if path is not None:
            write_json(document, path)
            print(f"{path}: {len(document['images'])} images, {len(document['annotations'])} annotations, "
                  f"{len(document['categories'])} names")  # fmt: skip
    return 0


def joined(documents: Sequence[Document]) -> Document:
    """One document of several, ids counted anew; categories are equal where name and level are."""
    categories: dict[tuple[str, str], Document] = {}
    images: list[Document] = []
    annotations: list[Document] = []
    for document in documents:
        category, image = {}, {}
        for row in document["categories"]:
            key = (row["name"], row.get("level", "object"))
            category[row["id"]] = categories.setdefault(key, {**row, "id": len(categories) + 1})["id"]
        for row in document["images"]:
            image[row["id"]] = len(images) + 1
            images.append({**row, "id": image[row["id"]]})
        ids = {row["id"]: len(annotations) + i for i, row in enumerate(document["annotations"], start=1)}
        for row in document["annotations"]:
            new = {**row, "id": ids[row["id"]], "image_id": image[row["image_id"]]}
            new["category_id"] = category[row["category_id"]]
            if row.get("parent") is not None:
                new["parent"] = ids[row["parent"]]
            annotations.append(new)
    return {"info": documents[0].get("info", {}), "images": images, "categories": list(categories.values()),
            "annotations": annotations}  # fmt: skip


def held_out(document: Document, names: Collection[str]) -> tuple[Document, Document]:
    """The photos without the names, whose categories lack them too, and those with them."""
    wanted = {name_key(name) for name in names}
    unseen = {row["id"] for row in document["categories"] if name_key(row["name"].partition(":")[0]) in wanted}
    photos = {row["image_id"] for row in document["annotations"] if row["category_id"] in unseen}
    parts = []
    for inside in (False, True):
        parts.append({
            **document,
            "images": [row for row in document["images"] if (row["id"] in photos) == inside],
            "annotations": [row for row in document["annotations"] if (row["image_id"] in photos) == inside],
            "categories": [row for row in document["categories"] if inside or row["id"] not in unseen],
        })  # fmt: skip
    return parts[0], parts[1]


if __name__ == "__main__":
    raise SystemExit(main())
