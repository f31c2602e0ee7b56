"""A COCO-style annotation file as columns: a few large arrays instead of millions of Python objects.

I images in file order, K categories in file order, M annotations grouped by image and else in file order, P polygons,
R run-length masks. Nothing here knows levels, names or vocabularies, so that one cache serves every data set that reads
the file.
"""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from partglee.data.annotations import columns_repair as repair
from partglee.data.annotations.categories import image_file_name
from partglee.data.annotations.json_stream import stream_lists
from partglee.data.annotations.triples import SUFFIXES, stream_triples
from partglee.data.annotations.values import file_name_of, flag, text_of, whole
from partglee.data.segmentation import read_runs

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Columns:
    """The arrays, and the two small things that stay Python: categories and counts of what was wrong."""

    image_id: Ints  # (I,)
    image_size: Ints  # (I, 2) height, width; 0 where the file does not say
    image_text: NDArray[np.uint8]  # file names and expressions, UTF-8
    image_text_start: Ints  # (I + 1,) an image's file name, then its expressions as a JSON list or nothing
    file_name_end: Ints  # (I,)
    negative: Ints  # category rows that were looked for and not found
    negative_start: Ints  # (I + 1,)
    not_exhaustive: Ints  # category rows with more instances than are annotated
    not_exhaustive_start: Ints  # (I + 1,)
    annotation_start: Ints  # (I + 1,) rows of an image's annotations
    annotation_id: Ints  # (M,)
    category: NDArray[np.int32]  # (M,) row
    box: NDArray[np.float64]  # (M, 4) xyxy pixels
    crowd: NDArray[np.bool_]  # (M,)
    parent: Ints  # (M,) row of the annotation in the same image that this one names, -1 for none
    attribute_start: Ints  # (M,) first attribute
    attribute_count: NDArray[np.int32]  # (M,)
    attributes: NDArray[np.int32]  # attribute ids of all annotations (PACO)
    polygon_start: Ints  # (M,) first polygon
    polygon_count: NDArray[np.int32]  # (M,)
    coordinate_start: Ints  # (P,) first number
    coordinate_count: NDArray[np.int32]  # (P,)
    coordinates: NDArray[Any]  # x, y, x, y, ... of all polygons: float32, float64 where three decimals are not enough
    run: Ints  # (M,) row of the run-length mask, -1 for none
    run_size: NDArray[np.int32]  # (R, 2) height, width
    run_start: Ints  # (R + 1,)
    run_counts: NDArray[np.uint8]  # compressed counts of all masks
    categories: tuple[Mapping[str, Any], ...]  # K entries of the file
    federated: bool  # images say what was looked for (LVIS)
    issues: Mapping[str, int]  # what was wrong and how it was handled -> how often

    def __len__(self) -> int:
        return len(self.image_id)


def read_columns(path: Path) -> Columns:
    """Parse an annotation file, or one of triples, entry by entry.

    Raises:
        ValueError: when it is not JSON, lacks one of the three lists, gives an image or category id twice, or none of
            its annotations can be used.
    """
    triples = path.suffix in SUFFIXES
    parser = _Parser(boxes=not triples)
    handlers = {"images": parser.add_image, "annotations": parser.add_annotation, "categories": parser.add_category}
    seen: set[str] = set()
    numbers: Counter[str] = Counter()
    for key, entry in stream_triples(path) if triples else stream_lists(path):
        if key not in seen:  # where its list begins
            seen.add(key)
        elif key in handlers:
            numbers[key] += 1
            try:
                handlers[key](entry)
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
                reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
                where = f"annotation file '{path}', in {key}: number {numbers[key]}"
                raise ValueError(f"{where} ({_shown(entry)}): {reason}") from error
    if missing := [key for key in handlers if key not in seen]:
        raise ValueError(
            f"annotation file '{path}' has no {' and no '.join(missing)}, but {sorted(seen)}; see docs/datasets.md"
        )
    try:
        return parser.finish()
    except ValueError as error:
        raise ValueError(f"annotation file '{path}': {error}") from error


def _shown(entry: Any) -> str:
    if not isinstance(entry, dict):
        return f"{type(entry).__name__}, not an object {{...}}"
    short = {key: value for key, value in entry.items() if not isinstance(value, (dict, list))}
    return f"{short!s:.120}" if short else "an empty object"


class _Parser:
    """Columns in the making, in file order.

    Args:
        boxes: whether annotations of this form have them.
    """

    def __init__(self, *, boxes: bool = True) -> None:
        self.boxes = boxes
        self.categories: list[dict[str, Any]] = []
        self.image_id, self.image_size = array("q"), array("q")
        self.file_names: list[bytes] = []
        self.sentences: list[bytes] = []
        self.negative: list[list[int]] = []
        self.not_exhaustive: list[list[int]] = []
        self.federated = False
        self.annotation_id, self.image, self.category_id = array("q"), array("q"), array("q")
        self.parent_id = array("q")
        self.box = array("d")  # x, y, width, height
        self.crowd = array("b")
        self.attributes, self.attribute_end = array("i"), array("q")
        self.polygon_end, self.coordinate_end = array("q"), array("q")
        self.coordinates = array("d")
        self.run, self.run_size, self.run_end = array("q"), array("i"), array("q")
        self.run_counts = bytearray()
        self.issues: Counter[str] = Counter()

    def add_category(self, entry: Mapping[str, Any]) -> None:
        keep = ("id", "name", "level", "supercategory", "prompt", "owners", "frequency")
        owners = entry.get("owners", [])
        if not isinstance(owners, (list, tuple)) or not all(isinstance(text, str) for text in (entry["name"], *owners)):
            raise ValueError("its name must be text, and its owners, where it has any, a list of names")
        kept = {key: entry[key] for key in keep if key in entry}
        for name in (entry["name"], *owners):
            text_of(name, "a name")
        self.categories.append({**kept, "id": whole(entry["id"], "id")})

    def add_image(self, entry: Mapping[str, Any]) -> None:
        self.image_id.append(whole(entry["id"], "id"))
        self.image_size.extend((_side(entry.get("height"), "height"), _side(entry.get("width"), "width")))
        for key in ("file_name", "coco_url"):
            text_of(entry.get(key) or "", key)
        self.file_names.append(file_name_of(image_file_name(entry), "file_name").encode())
        sentences = entry.get("expressions")
        self.sentences.append(json.dumps(sentences).encode() if sentences else b"")
        self.federated |= "neg_category_ids" in entry
        self.negative.append(_ids(entry.get("neg_category_ids"), "neg_category_ids"))
        self.not_exhaustive.append(_ids(entry.get("not_exhaustive_category_ids"), "not_exhaustive_category_ids"))

    def add_annotation(self, entry: Mapping[str, Any]) -> None:
        key = entry.get("id")
        self.annotation_id.append(0 if key is None else whole(key, "id"))
        self.image.append(whole(entry["image_id"], "image_id"))
        self.category_id.append(whole(entry["category_id"], "category_id"))
        parent = entry.get("parent_id")
        if parent is None:
            parent = entry.get("obj_ann_id")  # PACO's link; objects name themselves
        self.parent_id.append(0 if parent is None or parent == key else whole(parent, "parent_id"))
        self.crowd.append(flag(entry.get("iscrowd"), "iscrowd"))
        self.attributes.extend(entry.get("attribute_ids") or ())
        self.attribute_end.append(len(self.attributes))
        box = entry.get("bbox")
        self.box.extend(box if box is not None and len(box) == 4 else (np.nan,) * 4)
        segmentation = entry.get("segmentation")
        run = -1
        if isinstance(segmentation, dict):
            run = self._add_run_mask(segmentation)
        elif segmentation:
            for polygon in segmentation:
                self.coordinates.extend(polygon)
                self.coordinate_end.append(len(self.coordinates))
        self.run.append(run)
        self.polygon_end.append(len(self.coordinate_end))

    def _add_run_mask(self, segmentation: dict[str, Any]) -> int:
        encoded = read_runs(segmentation)
        self.run_size.extend(encoded["size"])
        self.run_counts += encoded["counts"]
        self.run_end.append(len(self.run_counts))
        return len(self.run_end) - 1

    def finish(self) -> Columns:
        """Sort by image, follow links, repair boxes and polygons, count."""
        image_id = np.array(self.image_id, np.int64)
        category_id = np.array([entry["id"] for entry in self.categories], np.int64)
        repair.check_unique(image_id, "image")
        repair.check_unique(category_id, "category")
        category_row = {int(key): row for row, key in enumerate(category_id)}
        negative, negative_start = _ragged(self.negative, category_row)
        not_exhaustive, not_exhaustive_start = _ragged(self.not_exhaustive, category_row)
        text = b"".join(name + sentence for name, sentence in zip(self.file_names, self.sentences, strict=True))
        ends = np.cumsum([0, *(len(t) for pair in zip(self.file_names, self.sentences, strict=True) for t in pair)])
        size = np.array(self.image_size, np.int64).reshape(-1, 2)
        if unknown := int((size <= 0).any(1).sum()):
            self.issues["images without a size (read from the image file)"] = unknown
            size[(size <= 0).any(1)] = 0

        image = repair.rows_of(np.array(self.image, np.int64), image_id)
        category = repair.rows_of(np.array(self.category_id, np.int64), category_id)
        of_image = np.append(size, [[0, 0]], axis=0)[image]  # (M, 2); unknown images are row -1
        repair.check_runs(self, of_image)
        shapes = repair.Shapes.of(self, of_image)
        repair.count_boxes_outside(np.array(self.box).reshape(-1, 4), of_image, image, self.issues)
        box = repair.repair_boxes(shapes, np.array(self.box).reshape(-1, 4), self.issues, expected=self.boxes)
        good = (image >= 0) & (category >= 0) & ~np.isnan(box).any(1)
        for mask, what in ((image < 0, "an unknown image"), (category < 0, "an unknown category")):
            if count := int(mask.sum()):
                self.issues[f"annotations of {what} (left out)"] = count
        if len(good) and not good.any():
            raise ValueError(f"none of its {len(good)} annotations can be used: {dict(self.issues)}")
        order = np.flatnonzero(good)
        order = order[np.argsort(image[order], kind="stable")]
        ids = np.array(self.annotation_id, np.int64)[order]
        parent = repair.follow_links(ids, np.array(self.parent_id, np.int64)[order], image[order], self.issues)
        attribute_start = np.array([0, *self.attribute_end], np.int64)
        return Columns(
            image_id=image_id, image_size=size, image_text=np.frombuffer(text, np.uint8),
            image_text_start=ends[0::2], file_name_end=ends[1::2],
            negative=negative, negative_start=negative_start,
            not_exhaustive=not_exhaustive, not_exhaustive_start=not_exhaustive_start,
            annotation_start=np.searchsorted(image[order], np.arange(len(image_id) + 1)),
            annotation_id=ids, category=category[order].astype(np.int32), box=box[order],
            crowd=np.array(self.crowd, bool)[order], parent=parent,
            attribute_start=attribute_start[:-1][order],
            attribute_count=np.diff(attribute_start)[order].astype(np.int32),
            attributes=np.array(self.attributes, np.int32),
            polygon_start=shapes.polygon_start[order], polygon_count=shapes.polygon_count[order],
            coordinate_start=shapes.coordinate_start, coordinate_count=shapes.coordinate_count,
            coordinates=shapes.coordinates, run=shapes.run[order], run_size=shapes.run_size,
            run_start=shapes.run_start, run_counts=shapes.run_counts,
            categories=tuple(self.categories), federated=self.federated, issues=dict(self.issues),
        )  # fmt: skip


def _side(value: Any, what: str) -> int:
    side = int(value or 0)
    if side >= 2**31:
        raise ValueError(f"{what} is no number of pixels: {value!s:.30}")
    return side


def _ids(values: Any, what: str) -> list[int]:
    if not isinstance(values, (list, type(None))):
        raise ValueError(f"{what} must be a list of category ids, got {values!r:.40}")
    return [whole(value, f"an id in {what}") for value in values or ()]


def _ragged(lists: list[list[int]], row_of: Mapping[int, int]) -> tuple[Ints, Ints]:
    rows = [[row_of[key] for key in entry if key in row_of] for entry in lists]
    starts = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    return np.array([row for entry in rows for row in entry], np.int64), starts
