"""Visual Genome -> hierarchical COCO JSON of free phrases, boxes alone.

Read are the published `objects.json` with `image_data.json`, or LVIS-style files with a phrase on each annotation.
"""

from __future__ import annotations

import argparse
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from partglee.basics.arguments import ArgumentParser
from partglee.basics.files import read_json
from partglee.data.annotations.json_stream import stream_entries, stream_lists
from partglee.data.prepare.command import Argv, run
from partglee.data.prepare.files import streamed_file
from partglee.data.prepare.vg_levels import Levels, derive_levels
from partglee.data.spec import datasets_root

PHRASE_KEYS = ("caption_with_token", "object_name", "caption")  # tried in this order


class PhraseBoxes:
    """Boxes with phrases as growing columns, each image's together."""

    def __init__(self) -> None:
        self.images: list[dict[str, Any]] = []
        self.start = [0]
        self.box, self.phrase = array("d"), array("q")
        self.ids: dict[str, int] = {}  # phrase -> position
        self.issues: Counter[str] = Counter()

    def add(self, text: object, box: Any) -> None:
        """One box, xywh, of the image that is ended next."""
        name = " ".join(str(text or "").lower().split())
        if not name:
            self.issues["left out: boxes without a phrase"] += 1
        elif len(box) != 4 or not (box[2] > 0 and box[3] > 0):
            self.issues["left out: boxes of no size"] += 1
        else:
            self.box.extend(box)
            self.phrase.append(self.ids.setdefault(name, len(self.ids)))

    def end_image(self, entry: dict[str, Any]) -> None:
        """The boxes added since the last image are of this one."""
        self.images.append(entry)
        self.start.append(len(self.phrase))

    def levels(self) -> Levels:
        """See `derive_levels`."""
        boxes = np.array(self.box, np.float64).reshape(-1, 4)
        return derive_levels(list(self.ids), np.array(self.phrase, np.int64), boxes, np.array(self.start, np.int64))


def read_official(folder: Path, *, wanted: Callable[[int], bool] = lambda image_id: True) -> PhraseBoxes:
    """`objects.json` and `image_data.json` of a folder; the first name of each object counts.

    Images are named `VG_100K/2.jpg` where `images/VG_100K` is a folder, else `2.jpg`.

    Raises:
        ValueError: for missing or malformed files.
    """
    for name in ("objects.json", "image_data.json"):
        if not (folder / name).is_file():
            raise ValueError(f"{folder / name} does not exist; get it from Visual Genome's page")
    nested = (folder / "images" / "VG_100K").is_dir()
    sizes = {}
    for entry in stream_entries(folder / "image_data.json"):
        name = "/".join(entry["url"].split("/")[-2 if nested else -1 :])
        sizes[entry["image_id"]] = {
            "id": entry["image_id"], "file_name": name, "height": entry["height"], "width": entry["width"],
        }  # fmt: skip
        if entry.get("coco_id"):
            sizes[entry["image_id"]]["coco_id"] = entry["coco_id"]
    phrases = PhraseBoxes()
    for entry in stream_entries(folder / "objects.json"):
        image = sizes.get(entry["image_id"])
        if image is None:
            phrases.issues["left out: images without size in image_data.json"] += 1
            continue
        if not wanted(image.get("coco_id", 0)):
            phrases.issues["left out: images of the files named by --without"] += 1
            continue
        for thing in entry["objects"]:
            names = thing.get("names") or [thing.get("name")]
            phrases.add(names[0], [thing["x"], thing["y"], thing["w"], thing["h"]])
        phrases.end_image(image)
    return phrases


def read_phrases(path: Path) -> PhraseBoxes:
    """An LVIS-style file whose annotations have `caption_with_token`, `object_name` or `caption`.

    Raises:
        ValueError: for a missing or malformed file, or one without images.
    """
    if not path.is_file():
        raise ValueError(f"{path} does not exist; name a file, or put Visual Genome's objects.json in its place")
    images: dict[Any, dict[str, Any]] = {}
    of_image: dict[Any, list[tuple[str, Any]]] = {}
    for key, entry in stream_lists(path):
        if entry is not None and key == "images":
            images[entry["id"]] = {name: entry[name] for name in ("id", "file_name", "height", "width")}
        elif entry is not None and key == "annotations":
            text = next((entry[name] for name in PHRASE_KEYS if entry.get(name)), "")
            of_image.setdefault(entry["image_id"], []).append((text, entry["bbox"]))
    if not images:
        raise ValueError(f"{path} has no images; expected an LVIS-style file with a phrase on each annotation")
    phrases = PhraseBoxes()
    for image_id, image in images.items():
        for text, box in of_image.pop(image_id, ()):
            phrases.add(text, box)
        phrases.end_image(image)
    phrases.issues["left out: boxes of unknown images"] += sum(map(len, of_image.values()))
    return phrases


def write_levels(phrases: PhraseBoxes, path: Path) -> dict[str, int]:
    """Derive the levels and write the hierarchical file.

    Returns:
        How many "images", "object phrases", "part phrases", "objects", "parts", "parts without parent", and what was
        left out.
    """
    levels = phrases.levels()
    phrase = np.array(phrases.phrase, np.int64)
    categories, category_id = _categories(list(phrases.ids), phrase, levels)
    part = levels.is_part[phrase] if len(phrase) else np.zeros(0, bool)
    with streamed_file(path, categories=categories, description="Visual Genome, objects and parts") as file:
        file.images.extend(phrases.images)
        for place, image in enumerate(phrases.images):
            for row in range(phrases.start[place], phrases.start[place + 1]):
                x, y, w, h = phrases.box[4 * row : 4 * row + 4]
                entry = {
                    "id": row + 1, "image_id": image["id"], "category_id": int(category_id[phrase[row]]),
                    "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0,
                }  # fmt: skip
                if levels.parent[row] >= 0:
                    entry["parent_id"] = int(levels.parent[row]) + 1
                file.add(entry)
    return {
        "images": len(phrases.images),
        "object phrases": int((~levels.is_part).sum()),
        "part phrases": int(levels.is_part.sum()),
        "objects": int((~part).sum()),
        "parts": int(part.sum()),
        "parts without parent": int((part & (levels.parent < 0)).sum()),
        **phrases.issues,
    }


def _categories(
    texts: list[str], phrase: NDArray[np.int64], levels: Levels
) -> tuple[list[Mapping[str, Any]], NDArray[np.int64]]:
    """Categories, and (P,) the id of each phrase: objects by name, then parts by name, from 1."""
    order = sorted(range(len(texts)), key=lambda row: (bool(levels.is_part[row]), texts[row]))
    category_id = np.zeros(len(texts), np.int64)
    category_id[order] = np.arange(1, len(texts) + 1)
    linked = np.flatnonzero(levels.parent >= 0)
    owners: dict[int, set[str]] = {}
    for part, owner in zip(phrase[linked].tolist(), phrase[levels.parent[linked]].tolist(), strict=True):
        owners.setdefault(part, set()).add(texts[owner])
    entries: list[Mapping[str, Any]] = []
    for row in order:
        extra = {"level": "part", "owners": sorted(owners[row])} if levels.is_part[row] else {"level": "object"}
        entries.append({"id": int(category_id[row]), "name": texts[row], **extra})
    return entries, category_id


def main(argv: Argv = None) -> int:
    """`datasets/prepare_visual_genome.py`."""
    root = datasets_root() / "visual_genome"
    parser = ArgumentParser(
        description="Visual Genome -> phrases sorted into objects and parts, parts with parents, boxes alone."
    )
    parser.add_argument(
        "source", nargs="?", type=Path, default=root,
        help="folder of objects.json and image_data.json, or an LVIS-style file with a phrase on each annotation "
        "(%(default)s)",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, default=root / "annotations" / "train_joint.json", help="(%(default)s)")
    parser.add_argument(
        "--without", nargs="+", type=Path, default=[], metavar="FILE",
        help="COCO files whose images are left out, such as those you evaluate on (half of the images are COCO's)",
    )  # fmt: skip
    return run(parser, argv, _prepare)


def _prepare(arguments: argparse.Namespace) -> Iterable[str]:
    if arguments.source.is_dir():
        left_out: set[int] = set()
        for path in arguments.without:
            left_out |= {int(image["id"]) for image in read_json(path, "COCO file")["images"]}
        phrases = read_official(arguments.source, wanted=lambda coco_id: coco_id not in left_out)
    elif arguments.without:
        raise ValueError("--without needs the folder of objects.json and image_data.json, which knows COCO's image ids")
    else:
        phrases = read_phrases(arguments.source)
    counts = write_levels(phrases, arguments.output)
    yield f"{arguments.output}: " + ", ".join(f"{count} {what}" for what, count in counts.items() if count)
