"""Predictions of this library: the JSON Lines of `partglee predict`, read only, to be corrected in another tool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pycocotools import mask as rle  # type: ignore[import-untyped, unused-ignore]

from partglee.basics.files import read_json_lines
from partglee.data.annotations.values import file_name_of
from partglee.data.formats.shapes import Shape, name_of, nested, number, size_of, told
from partglee.data.prepare.files import AnnotatedImage
from partglee.data.segmentation import encode_segmentation


def read(path: Path, notes: Counter[str]) -> Iterator[AnnotatedImage]:
    """One image for each line, with scores.

    Raises:
        ValueError: for a line that `Prediction.to_json` did not write, with its number.
    """
    line = 0
    for line, _, entry in read_json_lines(path, "predictions file"):
        with told(f"line {line} of predictions file '{path}'"):
            image = _image(entry, notes)
        yield image
    if not line:
        raise ValueError(f"predictions file '{path}' has no line")


def _image(entry: Any, notes: Counter[str]) -> AnnotatedImage:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("results"), list):
        raise ValueError("it must be an object with `file_name`, `height`, `width` and `results`")
    size = size_of(entry.get("height"), entry.get("width"))
    shapes = []
    for place, found in enumerate(entry["results"], start=1):
        with told(f"result {place}"):
            shapes.append(_shape(found, size))
    return nested(file_name_of(entry["file_name"], "file_name"), size, shapes, notes)


def _shape(entry: Mapping[str, Any], size: tuple[int, int]) -> Shape:
    x, y, w, h = (number(value, "bbox") for value in entry["bbox"])
    mask = None
    if entry.get("segmentation") is not None:
        encoded = encode_segmentation(entry["segmentation"], size, what="its mask")
        if rle.area(encoded):
            mask = {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")}
    if str(entry["level"]) not in ("object", "part"):
        raise ValueError(f"level must be 'object' or 'part', got {entry['level']!r:.30}")
    return Shape(
        name_of(entry["name"]), (x, y, w, h), mask, key=entry.get("id"), parent=entry.get("parent_id"),
        part=entry["level"] == "part", score=number(entry["score"], "score"),
    )  # fmt: skip
