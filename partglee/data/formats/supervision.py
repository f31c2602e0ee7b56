"""supervision: `Detections` in memory, and the rows that its `JSONSink` writes.
https://supervision.roboflow.com/latest/detection/tools/save_detections/

`data` holds the hierarchy: `class_name`, `level` (0 object, 1 part) and `parent` (row of the same image, -1 without),
as of `Prediction.to_supervision`; a file also has the image of each row, and its mask as run lengths, which the sink
would leave out.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pycocotools import mask as rle  # type: ignore[import-untyped, unused-ignore]

from partglee.basics.files import whole_file
from partglee.data.annotations.json_stream import stream_entries
from partglee.data.annotations.values import file_name_of, flag, whole
from partglee.data.formats import masks
from partglee.data.formats.names import Names
from partglee.data.formats.shapes import Shape, name_of, nested, number, rows, size_of, told
from partglee.data.prepare.files import AnnotatedImage
from partglee.data.segmentation import decode, encode_segmentation

if TYPE_CHECKING:
    import supervision


def to_detections(image: AnnotatedImage, classes: list[str]) -> supervision.Detections:
    """The regions of one image; instances without a mask have an empty one beside others that have one.

    Args:
        classes: names in the order of `class_id`.

    Raises:
        ValueError: for a mask of an image whose size is not known.
    """
    import supervision

    listed = rows(image)
    regions = [entry.region for entry in listed]
    size = (image.height, image.width)
    has_mask = any(region.segmentation for region in regions)
    drawn = [decode(r.segmentation, *size) if r.segmentation else np.zeros(size, bool) for r in regions]
    scores = [region.extra.get("score") for region in regions]
    boxes = np.array([(x, y, x + w, y + h) for x, y, w, h in (region.box for region in regions)], np.float32)
    return supervision.Detections(
        xyxy=boxes.reshape(-1, 4), mask=np.array(drawn, bool).reshape(-1, *size) if has_mask else None,
        confidence=None if None in scores or not scores else np.array(scores, np.float32),
        class_id=np.array([classes.index(region.name) for region in regions], int),
        data={
            "class_name": np.array([region.name for region in regions], dtype=str),
            "level": np.array([int(entry.part) for entry in listed], int),
            "parent": np.array([entry.parent for entry in listed], int),
            "iscrowd": np.array([int(region.crowd) for region in regions], int),
        },
    )  # fmt: skip


def from_detections(
    detections: supervision.Detections, *, file_name: str, size: tuple[int, int], notes: Counter[str] | None = None
) -> AnnotatedImage:
    """One image of `Detections`; without `level` and `parent` all are objects.

    Args:
        size: (H, W) of the image.

    Raises:
        ValueError: without `class_name`, or for boxes that are no numbers.
    """
    data = detections.data
    if "class_name" not in data:
        raise ValueError("the detections have no data['class_name'], so nobody knows what they are")
    shapes = []
    for row in range(len(detections)):
        entry: dict[str, Any] = {key: data[key][row] for key in ("level", "parent", "iscrowd") if key in data}
        entry |= {"class_name": str(data["class_name"][row])}
        x0, y0, x1, y1 = (float(value) for value in detections.xyxy[row])
        entry |= {"x_min": x0, "y_min": y0, "x_max": x1, "y_max": y1}
        if detections.confidence is not None:
            entry["confidence"] = float(detections.confidence[row])
        mask = None if detections.mask is None else np.asarray(detections.mask[row], bool)
        shapes.append(_shape(entry, row, None if mask is None else masks.pixels(mask, 0, 0, size)))
    return nested(file_name, size, shapes, Counter() if notes is None else notes)


def read(path: Path, notes: Counter[str]) -> Iterator[AnnotatedImage]:
    """Images of a file of the sink, whose rows say their `file_name` and `class_name`; rows of an image are together.

    Raises:
        ValueError: for a file that is no list of rows, with the number of the row.
    """
    count = 0
    seen: set[str] = set()
    for name, group in groupby(_rows(path), key=lambda pair: pair[2]):
        if name in seen:
            raise ValueError(f"supervision file '{path}': the rows of '{name}' are not together; sort them by image")
        seen.add(name)
        shapes, size = [], (0, 0)
        for place, (count, entry, _) in enumerate(group):
            with told(f"supervision file '{path}', row {count}"):
                size = size if place else size_of(entry.get("height"), entry.get("width"))
                shapes.append(_shape(entry, place, _written_mask(entry.get("rle"), size)))
        yield nested(name, size, shapes, notes)
    if not count:
        raise ValueError(f"supervision file '{path}' has no row")


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any], str]]:
    for count, entry in enumerate(stream_entries(path), start=1):
        with told(f"supervision file '{path}', row {count}"):
            if not isinstance(entry, Mapping) or "x_min" not in entry:
                raise ValueError("it is no row of supervision's JSONSink, which has x_min, y_min, x_max and y_max")
            name = file_name_of(entry["file_name"], "file_name (pass it as custom_data to the sink)")
        yield count, entry, name


def _shape(entry: Mapping[str, Any], row: int, mask: Any) -> Shape:
    x0, y0, x1, y1 = (number(entry[key], key) for key in ("x_min", "y_min", "x_max", "y_max"))
    if x1 <= x0 or y1 <= y0:
        raise ValueError(f"its box has no size: {(x0, y0, x1, y1)}")
    parent = whole(number(entry.get("parent", -1), "parent"), "parent")  # older sinks write numbers as text
    level = str(_plain(entry.get("level")))
    score = entry.get("confidence")
    return Shape(
        name_of(entry["class_name"]), (x0, y0, x1 - x0, y1 - y0) if mask is None else mask[1],
        None if mask is None else mask[0], key=row, parent=None if parent < 0 else parent,
        part={"0": False, "1": True, "object": False, "part": True}.get(level),
        crowd=flag(_plain(entry.get("iscrowd")), "iscrowd"),
        score=None if score in (None, "") else number(score, "confidence"),
    )  # fmt: skip


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _written_mask(value: Any, size: tuple[int, int]) -> Any:
    """(run lengths, box) of `rle`; None without."""
    if value in (None, ""):
        return None
    encoded = encode_segmentation({"size": list(size), "counts": value}, size, what="its mask")
    x, y, w, h = (float(number_) for number_ in rle.toBbox(encoded))
    return None if not w * h else ({"size": list(size), "counts": encoded["counts"].decode("ascii")}, (x, y, w, h))


def write(images: Iterable[AnnotatedImage], path: Path, names: Names) -> None:
    """Write the rows that the sink writes for `to_detections`, with `file_name`, `height`, `width` and `rle`.

    Images without a region have no row. The file appears when it is whole.
    """
    classes = list(dict.fromkeys([*names.objects, *names.parts]))
    number_of = {name: number_ for number_, name in enumerate(classes)}
    with whole_file(path) as beside, beside.open("w", encoding="utf-8") as stream:
        stream.write("[")
        written = 0
        for image in images:
            size = (image.height, image.width)
            for entry in rows(image):
                region = entry.region
                x, y, w, h = region.box
                mask = ""
                if region.segmentation:
                    mask = encode_segmentation(region.segmentation, size, what="a mask")["counts"].decode("ascii")
                row = {
                    "x_min": x, "y_min": y, "x_max": x + w, "y_max": y + h, "class_id": number_of[region.name],
                    "confidence": region.extra.get("score", ""), "tracker_id": "", "class_name": region.name,
                    "level": int(entry.part), "parent": entry.parent, "iscrowd": int(region.crowd),
                    "file_name": image.file_name, "height": size[0], "width": size[1], "rle": mask,
                }  # fmt: skip
                stream.write((",\n" if written else "\n") + json.dumps(row))
                written += 1
        stream.write("\n]\n")
