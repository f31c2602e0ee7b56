"""Open Images (V4 to V7, boxes) -> hierarchical COCO JSON: 588 objects, 13 parts of the human body, boxes alone."""

from __future__ import annotations

import argparse
import csv
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from partglee.basics.arguments import ArgumentParser
from partglee.data.images import image_size
from partglee.data.prepare.command import Argv, run
from partglee.data.prepare.files import streamed_file
from partglee.data.spec import datasets_root

HUMAN_PARTS = tuple(
    f"Human {part}" for part in (
        "eye", "beard", "mouth", "body", "foot", "leg", "ear", "hair", "head", "face", "arm", "nose", "hand"
    )
)  # fmt: skip
OWNERS = ("Person", "Man", "Woman", "Boy", "Girl")
INSIDE = 0.5  # share of a part's box that lies in the box of its person
_BOX_COLUMNS = ("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax", "IsGroupOf")
_CHUNK = 4096  # images whose headers are read at a time


class _Boxes(NamedTuple):
    """Boxes of a split, sorted by image."""

    images: list[str]
    start: NDArray[np.int64]  # (I + 1,)
    label: NDArray[np.int64]  # (M,) position among the classes
    box: NDArray[np.float64]  # (M, 4) xyxy, shares of the image's sides
    group: NDArray[np.bool_]  # (M,) one box for more than five instances


def prepare_split(folder: Path, split: str, output: Path, *, workers: int = 16) -> Counter[str]:
    """Write the hierarchical file of one split.

    Boxes around groups become crowds, and their names do not count as exhaustively annotated in that image. Names that
    annotators verified to be absent become `neg_category_ids`. The parent of a body part is the smallest larger box of
    a person, man, woman, boy or girl that holds half of it or more.

    Args:
        folder: with the CSV files (or in its folder `annotations`) and the images in `folder/SPLIT/`.
        split: "train", "validation" or "test".
        output: the file.
        workers: threads that read image sizes.

    Returns:
        How many "images", "objects", "parts", "parts without parent", and what was left out.

    Raises:
        ValueError: for files that are missing, or lack a column or class.
    """
    classes = read_classes(_find(folder, "*class-descriptions-boxable.csv"))
    names = sorted((name for name in classes.values() if name not in HUMAN_PARTS), key=str.casefold)
    ids = {name: number for number, name in enumerate([*names, *(p for p in HUMAN_PARTS if p in classes.values())], 1)}
    codes = {code: ids[name] for code, name in classes.items()}
    boxes = _read_boxes(_find(folder, f"*{split}-annotations-bbox.csv"), codes)
    absent = _read_absent(_find(folder, f"*{split}-annotations-human-imagelabels-boxable.csv"), codes)
    part_ids = frozenset(ids[name] for name in HUMAN_PARTS if name in ids)
    owner_ids = frozenset(ids[name] for name in OWNERS if name in ids)
    owners = [name for name in OWNERS if name in ids]
    categories = [
        {"id": number, "name": name, "level": "part", "owners": owners} if name in HUMAN_PARTS
        else {"id": number, "name": name, "level": "object"}
        for name, number in ids.items()
    ]  # fmt: skip
    counts: Counter[str] = Counter()
    title = f"Open Images {split}, objects and human parts"
    with streamed_file(output, categories=categories, description=title) as file:
        for place, size in enumerate(_sizes([folder / split / f"{name}.jpg" for name in boxes.images], workers)):
            name = boxes.images[place]
            if size is None:
                counts["left out: images missing or damaged"] += 1
                continue
            rows = range(int(boxes.start[place]), int(boxes.start[place + 1]))
            entries = _annotations(boxes, rows, size, part_ids, owner_ids)
            crowded = {entry["category_id"] for entry in entries if entry["iscrowd"]}
            present = {entry["category_id"] for entry in entries}
            file.images.append(
                {"id": len(file.images) + 1, "file_name": f"{split}/{name}.jpg", "height": size[0], "width": size[1],
                 "neg_category_ids": sorted(absent.get(name, set()) - present),
                 "not_exhaustive_category_ids": sorted(crowded), "original_id": name}
            )  # fmt: skip
            first = counts["objects"] + counts["parts"]
            for number, entry in enumerate(entries, first + 1):
                parent = entry.pop("parent")
                link = {} if parent is None else {"parent_id": first + parent + 1}
                entry = {"id": number, "image_id": len(file.images), **entry, **link}
                file.add(entry)
                is_part = entry["category_id"] in part_ids
                counts["parts" if is_part else "objects"] += 1
                counts["parts without parent"] += is_part and not link
        if not file.images:
            raise ValueError(f"none of the {len(boxes.images)} images is in {folder / split}; unpack them there")
        counts["images"] = len(file.images)
    return counts


def read_classes(path: Path) -> dict[str, str]:
    """{code: name} of a class descriptions file, with or without a line of titles."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        names = {row[0]: row[1].strip() for row in csv.reader(file) if len(row) >= 2 and row[0].startswith("/")}
    if not names or len(set(names.values())) < len(names):
        raise ValueError(f"{path} must hold lines '/m/011k07,Tortoise' with different names, got {len(names)} lines")
    return names


def _find(folder: Path, pattern: str) -> Path:
    files = sorted([*folder.glob(pattern), *folder.glob(f"annotations/{pattern}")])
    if not files:
        raise ValueError(f"no file {pattern} in {folder} or {folder / 'annotations'}; get it from Open Images' page")
    return files[-1]  # the newest version


def _rows(path: Path, columns: Sequence[str]) -> Iterator[list[str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        titles = next(reader, [])
        if missing := [name for name in columns if name not in titles]:
            raise ValueError(f"{path} has no column {missing[0]}, but {titles[:8]}; is it the right file?")
        places = [titles.index(name) for name in columns]
        for row in reader:
            yield [row[place] for place in places]


def _read_boxes(path: Path, codes: Mapping[str, int]) -> _Boxes:
    images: dict[str, int] = {}
    image, label, group, box = array("q"), array("q"), array("b"), array("d")
    for name, code, x0, x1, y0, y1, is_group in _rows(path, _BOX_COLUMNS):
        if code not in codes:
            raise ValueError(f"{path} has a box of class {code}, which the class descriptions do not have")
        image.append(images.setdefault(name, len(images)))
        label.append(codes[code])
        group.append(is_group == "1")
        box.extend((float(x0), float(y0), float(x1), float(y1)))
    row = np.array(image, np.int64)
    order = np.argsort(row, kind="stable")
    start = np.searchsorted(row[order], np.arange(len(images) + 1))
    return _Boxes(
        list(images), start, np.array(label, np.int64)[order], np.array(box, np.float64).reshape(-1, 4)[order],
        np.array(group, bool)[order],
    )  # fmt: skip


def _read_absent(path: Path, codes: Mapping[str, int]) -> dict[str, set[int]]:
    """Image -> categories that annotators looked for and did not find."""
    absent: dict[str, set[int]] = defaultdict(set)
    for name, code, confidence in _rows(path, ("ImageID", "LabelName", "Confidence")):
        if float(confidence) == 0 and code in codes:
            absent[name].add(codes[code])
    return absent


def _annotations(
    boxes: _Boxes, rows: range, size: tuple[int, int], parts: frozenset[int], owners: frozenset[int]
) -> list[dict[str, Any]]:
    """COCO entries; `parent` is the place of the person in the list, or None."""
    scaled = boxes.box[rows.start : rows.stop] * np.array([size[1], size[0]] * 2)
    label, group = boxes.label[rows.start : rows.stop], boxes.group[rows.start : rows.stop]
    area = (scaled[:, 2] - scaled[:, 0]) * (scaled[:, 3] - scaled[:, 1])
    persons = [place for place in range(len(label)) if int(label[place]) in owners and not group[place]]
    persons.sort(key=lambda place: (area[place], place))
    entries = []
    for place, (x0, y0, x1, y1) in enumerate(np.round(scaled, 2).tolist()):
        parent = None
        if int(label[place]) in parts:
            parent = next((person for person in persons if _holds(scaled, area, person, place)), None)
        entries.append(
            {"category_id": int(label[place]), "bbox": [x0, y0, round(x1 - x0, 2), round(y1 - y0, 2)],
             "area": round(float(area[place]), 2), "iscrowd": int(group[place]), "parent": parent}
        )  # fmt: skip
    return entries


def _holds(box: NDArray[np.float64], area: NDArray[np.float64], person: int, part: int) -> bool:
    low, high = np.maximum(box[person, :2], box[part, :2]), np.minimum(box[person, 2:], box[part, 2:])
    inside = float((high - low).clip(min=0).prod())
    return bool(area[person] > area[part]) and inside > 0 and inside >= INSIDE * float(area[part])


def _sizes(files: Sequence[Path], workers: int) -> Iterator[tuple[int, int] | None]:
    """(height, width) as shown upright, from the headers; None for a file that is missing or no image."""
    with ThreadPoolExecutor(workers) as pool:
        for first in range(0, len(files), _CHUNK):
            yield from pool.map(_size, files[first : first + _CHUNK])


def _size(file: Path) -> tuple[int, int] | None:
    try:
        return image_size(file)
    except (OSError, ValueError):
        return None


def main(argv: Argv = None) -> int:
    """`datasets/prepare_openimages.py`."""
    root = datasets_root() / "openimages"
    parser = ArgumentParser(
        description="Open Images -> 588 objects and 13 parts of the human body with parents, boxes alone."
    )
    parser.add_argument("folder", nargs="?", type=Path, default=root, help="of CSV files and images (%(default)s)")
    parser.add_argument("--splits", nargs="+", choices=("train", "validation"), default=["train", "validation"])
    parser.add_argument("--workers", type=int, default=16, help="threads that read image sizes (%(default)s)")
    return run(parser, argv, _prepare)


def _prepare(arguments: argparse.Namespace) -> Iterable[str]:
    for split in arguments.splits:
        name = {"train": "train", "validation": "val"}[split]
        path = arguments.folder / "annotations" / f"openimage_joint_{name}.json"
        counts = prepare_split(arguments.folder, split, path, workers=arguments.workers)
        yield f"{path}: " + ", ".join(f"{count} {what}" for what, count in counts.items() if count)
