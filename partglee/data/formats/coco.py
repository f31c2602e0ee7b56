"""COCO JSON with `parent_id`: the library's own format (docs/datasets.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from partglee.basics.masks import run_length_fault
from partglee.data.annotations.categories import label_categories, split_part_name
from partglee.data.annotations.coco_json import CocoRecords
from partglee.data.annotations.columns import read_columns
from partglee.data.formats.names import Names
from partglee.data.formats.shapes import Shape, nested, rows, told
from partglee.data.prepare.files import AnnotatedImage, streamed_file
from partglee.data.prepare.regions import Region


def read(path: Path, notes: Counter[str]) -> Iterator[AnnotatedImage]:
    """Images of a file in its order; what is repaired or left out is what training leaves out, and is counted."""
    columns = read_columns(path)
    notes.update(columns.issues)
    _count_lost(columns, notes)
    if not columns.categories:  # and so no annotation: images without objects, which other formats hold as well
        columns = replace(columns, categories=({"id": 0, "name": "object"},))
    records = CocoRecords(columns, images=Path())
    names = [str(entry["name"]) for entry in columns.categories]
    is_part = label_categories(
        columns.categories, None, linked=bool((columns.parent >= 0).any()),
        used=frozenset(np.unique(columns.category).tolist()),
    ).is_part  # fmt: skip
    for image in range(len(columns)):
        first, last = int(columns.annotation_start[image]), int(columns.annotation_start[image + 1])
        shapes = []
        for row in range(first, last):
            category, above = int(columns.category[row]), int(columns.parent[row])
            x0, y0, x1, y1 = (float(value) for value in columns.box[row])
            with told(f"annotation file '{path}', annotation {int(columns.annotation_id[row])}"):
                segmentation = _as_json(records.segmentation(row))
            shapes.append(
                Shape(
                    names[category], (x0, y0, round(x1 - x0, 9), round(y1 - y0, 9)), segmentation, key=row,
                    parent=None if above < 0 else above, part=bool(is_part[category]), crowd=bool(columns.crowd[row]),
                )
            )  # fmt: skip
        height, width = records.size(image)
        yield nested(records.file_name(image), (height, width), shapes, notes)


def _as_json(segmentation: Any) -> Any:
    if isinstance(segmentation, tuple):
        return [list(polygon) for polygon in segmentation]
    if segmentation is None:
        return None
    if fault := run_length_fault(segmentation):
        raise ValueError(fault)
    return {"size": [int(side) for side in segmentation["size"]], "counts": segmentation["counts"].decode("ascii")}


def _count_lost(columns: Any, notes: Counter[str]) -> None:
    """What no other format holds."""
    told_of = int((columns.image_text_start[1:] > columns.file_name_end).sum())
    unused = len(columns.categories) - len(np.unique(columns.category))
    for what, count in (
        ("images with referring expressions, which are left out", told_of),
        ("images with names looked for and not found (LVIS), which are left out", len(columns.negative)),
        ("attributes of annotations, which are left out", len(columns.attributes)),
        ("categories without an annotation, which are left out", unused),
        ("prompts of categories, which are left out", sum(bool(entry.get("prompt")) for entry in columns.categories)),
    ):
        if count:
            notes[what] += count


def write(images: Iterable[AnnotatedImage], path: Path, names: Names) -> None:
    """Write a file, image by image; it appears when it is whole.

    Raises:
        ValueError: when some part names say their object and another one can have none.
    """
    labels = _Labels(names)
    with streamed_file(path, categories=labels.categories, description="converted") as file:
        written = 0
        for number, image in enumerate(images, start=1):
            size = {"height": image.height, "width": image.width} if image.height and image.width else {}
            file.images.append({"id": number, "file_name": image.file_name, **size})
            listed = rows(image)
            for row, (region, parent, part) in enumerate(listed):
                entry: dict[str, Any] = {
                    "id": written + 1 + row, "image_id": number,
                    "category_id": labels.id_of(region, _owner(listed, row), part), "bbox": list(region.box),
                    "area": region.area, "iscrowd": int(region.crowd), **region.extra,
                }  # fmt: skip
                if region.segmentation is not None:
                    entry["segmentation"] = region.segmentation
                if parent >= 0:
                    entry["parent_id"] = written + 1 + parent
                file.add(entry)
            written += len(listed)


def _owner(listed: list[Any], row: int) -> str | None:
    """Name of the object on top of a row."""
    while listed[row].parent >= 0:
        row = listed[row].parent
    return None if listed[row].part else str(listed[row].region.name)


class _Labels:
    """Categories of the names: objects, then parts. A part's own name stays, with its objects as `owners`, unless other
    parts say theirs (`car:wheel`): no file may have both forms."""

    def __init__(self, names: Names) -> None:
        free = {name: owners for name, owners in names.parts.items() if split_part_name(name) is None}
        self._full = bool(free) and len(free) < len(names.parts) and len(names.objects) > 1
        if self._full and (lost := [name for name, owners in free.items() if None in owners]):
            raise ValueError(
                f"a part {lost[0]!r} has no object, and other parts have names that say theirs; link it to its object "
                "in the source, name it 'object:part', or convert with --part-names keep"
            )
        entries: dict[tuple[str, bool], dict[str, Any]] = {}
        for name in names.objects:
            entries[name, False] = {"name": name, "level": "object"}
        for name, owners in names.parts.items():
            known = [owner for owner in owners if owner is not None]
            if name not in free:
                entries[name, True] = {"name": name, "level": "part"}
            elif self._full:
                entries.update(
                    {(f"{owner}:{name}", True): {"name": f"{owner}:{name}", "level": "part"} for owner in known}
                )
            else:
                entries[name, True] = {"name": name, "level": "part", **({"owners": known} if known else {})}
        self._ids = {key: number for number, key in enumerate(entries, start=1)}
        self._free = frozenset(free)
        self.categories = [
            {"id": number, **entry} for number, entry in zip(self._ids.values(), entries.values(), strict=True)
        ]

    def id_of(self, region: Region, owner: str | None, part: bool) -> int:
        full = part and self._full and region.name in self._free
        return self._ids[f"{owner}:{region.name}" if full else region.name, part]
