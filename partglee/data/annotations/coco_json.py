"""Reading hierarchical COCO JSON, the one annotation format of the library (docs/datasets.md describes it).

COCO, LVIS and PACO files are files of this format. I images, M annotations, K categories.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from partglee.data.annotations.categories import label_categories, objects_above
from partglee.data.annotations.columns import Columns
from partglee.data.annotations.columns_cache import load_columns
from partglee.data.annotations.columns_repair import as_written
from partglee.data.annotations.expressions import count_expressions, is_old_form, parse_expressions
from partglee.data.records import Expression, ImageRecord, Instance, Segmentation
from partglee.data.spec import DatasetSpec
from partglee.structures import Vocabulary

_log = logging.getLogger(__name__)


def read_coco(spec: DatasetSpec) -> CocoRecords:
    """The reader of most data sets: `spec.annotations` is the file, `spec.select` a share of its images.

    Raises:
        ValueError: when the file is missing or malformed (the message names it), its categories do not fit the
            vocabulary, or the share holds no image.
    """
    columns = load_columns(spec.annotation_path)
    vocabulary = None if spec.vocabulary is None else Vocabulary.parse(spec.vocabulary)
    begin, end = (round(share * len(columns)) for share in spec.select)
    if not 0 <= begin < end <= len(columns):
        raise ValueError(f"data set {spec.name!r}: select {spec.select} leaves none of {len(columns)} images")
    if columns.issues:
        issues = "; ".join(f"{count} x {what}" for what, count in columns.issues.items())
        _log.warning("%s: %s", spec.annotation_path, issues)
    try:
        records = CocoRecords(
            columns, images=spec.image_root, vocabulary=vocabulary, rows=range(begin, end),
            path_parts=spec.options.get("path_parts", 0), inside=bool(spec.images) and not spec.outside_images,
        )  # fmt: skip
        if records.expressions_by_object():
            _log.warning(
                "%s: expressions as lists of sentences for each object are deprecated; run the prepare script again, "
                "or see docs/datasets.md for the form with several targets and none", spec.annotation_path,
            )  # fmt: skip
        return records
    except ValueError as error:
        raise ValueError(f"data set {spec.name!r}, file '{spec.annotation_path}': {error}") from error


def read_triples(spec: DatasetSpec) -> CocoRecords:
    """The reader of triples (`partglee.data.annotations.triples`), whose records and cache are those of `read_coco`."""
    return read_coco(spec)


class CocoRecords:
    """A sequence of `ImageRecord`, each made when it is asked for.

    Args:
        columns: the annotation file.
        images: folder that file names are relative to.
        vocabulary: names that are wanted; None = the file's categories.
        rows: images that belong to this split; None = all.
        inside: names that lead out of the folder (absolute ones, `..`) are refused when the image is asked for.
        path_parts: of the file names, as many parts from the end count (2: folder and name); 0 = all.
    """

    def __init__(
        self,
        columns: Columns,
        *,
        images: Path,
        vocabulary: Vocabulary | None = None,
        rows: range | None = None,
        path_parts: int = 0,
        inside: bool = False,
    ) -> None:
        self.columns = columns
        self.images = images
        self.path_parts = path_parts
        self.inside = inside
        self.rows: Sequence[int] = range(len(columns)) if rows is None else rows
        self.vocabulary, self._is_part, self._label = label_categories(
            columns.categories, vocabulary, linked=bool((columns.parent >= 0).any()),
            used=frozenset(np.unique(columns.category).tolist()),
        )  # fmt: skip
        is_part = self._is_part[columns.category] if len(columns.category) else np.zeros(0, bool)
        self._parent = objects_above(np.where(is_part, columns.parent, -1), is_part)

    @property
    def issues(self) -> Mapping[str, int]:
        """What was wrong in the file and how it was handled -> how often, over all its images."""
        return self.columns.issues

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> ImageRecord:
        image, c = self.rows[index], self.columns
        annotations = range(int(c.annotation_start[image]), int(c.annotation_start[image + 1]))
        height, width = (int(side) for side in c.image_size[image])
        objects: dict[int, Instance] = {}
        row_of: dict[int, int] = {}  # annotation -> row in objects
        for row in annotations:
            instance = None if self._part_at(row) else self._instance(row)
            if instance is not None:
                row_of[row] = len(objects)
                objects[row] = instance
        parts: dict[int, Instance] = {}
        for row in annotations:
            if self._part_at(row):
                instance = self._instance(row, parent=row_of.get(int(self._parent[row]), -1))
                if instance is not None:
                    parts[row] = instance
        negative = self._labels_of(c.negative, c.negative_start, image) if c.federated else (None, None)
        inexhaustive = self._labels_of(c.not_exhaustive, c.not_exhaustive_start, image)
        return ImageRecord(
            file=self._file(index),
            height=height,
            width=width,
            image_id=int(c.image_id[image]),
            objects=tuple(objects.values()),
            parts=tuple(parts.values()),
            negative_objects=negative[0],
            negative_parts=negative[1],
            not_exhaustive_objects=inexhaustive[0],
            not_exhaustive_parts=inexhaustive[1],
            expressions=self._expressions(image, tuple(objects.values()), tuple(parts.values())),
        )

    def narrowed(self, rows: Sequence[int]) -> CocoRecords:
        """These images alone, in this order."""
        view = copy(self)
        view.rows = [self.rows[row] for row in rows]
        return view

    def counts(self) -> dict[str, int]:
        """What the whole file holds, by the names of `Counts.told`; annotations that cannot be used do not count."""
        of_category = np.bincount(self.columns.category, minlength=len(self.columns.categories))
        parts, annotations = int(of_category[self._is_part].sum()), int(of_category.sum())
        names = int(self._is_part.sum())
        return {
            "images": len(self.columns), "objects": annotations - parts, "parts": parts, "annotations": annotations,
            "object names": len(self._is_part) - names, "part names": names, **self._count_expressions(),
        }  # fmt: skip

    @property
    def category_ids(self) -> tuple[list[int], list[int]]:
        """The file's category id of each object label and of each part label; -1 where the file has none."""
        names = self.vocabulary
        ids = [-1] * len(names.object_names), [-1] * len(names.part_names)
        for row in self._used_first():
            level, label = int(self._is_part[row]), int(self._label[row])
            if label >= 0 and ids[level][label] < 0:
                ids[level][label] = int(self.columns.categories[row]["id"])
        return ids

    @property
    def category_aliases(self) -> dict[int, int]:
        """Further category ids of a label -> the one in `category_ids`."""
        ids, aliases = self.category_ids, {}
        for entry, is_part, label in zip(self.columns.categories, self._is_part, self._label, strict=True):
            if label >= 0 and (own := ids[int(is_part)][label]) != entry["id"]:
                aliases[int(entry["id"])] = own
        return aliases

    def _used_first(self) -> list[int]:
        """Rows of the categories: those with annotations, then the others."""
        used = np.bincount(self.columns.category, minlength=len(self.columns.categories)) > 0
        return np.argsort(~used, kind="stable").tolist()  # type: ignore[no-any-return]

    @property
    def has_masks(self) -> bool:
        """Whether an annotation of the file has a mask, or there is none to say."""
        c = self.columns
        return bool((c.run >= 0).any() or (c.polygon_count > 0).any() or not len(c.category))

    def _file(self, index: int) -> Path:
        name = self.file_name(index)
        if self.inside and (name.startswith("/") or ".." in name.split("/")):
            image = int(self.columns.image_id[self.rows[index]])
            raise ValueError(
                f"image {image}: file_name {name!r} leads out of the image folder '{self.images}'; set OUTSIDE_IMAGES "
                "of the data set to read it all the same"
            )
        return self.images / name

    def file_name(self, index: int) -> str:
        """File name relative to the image folder."""
        image, c = self.rows[index], self.columns
        name = c.image_text[c.image_text_start[image] : c.file_name_end[image]].tobytes().decode()
        return name if self.path_parts == 0 else "/".join(name.split("/")[-self.path_parts :])

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of the file; (0, 0) where it does not say."""
        height, width = self.columns.image_size[self.rows[index]]
        return int(height), int(width)

    def labels(self, index: int) -> tuple[frozenset[int], frozenset[int]]:
        """Object and part labels that an image has instances of; crowds do not count."""
        image, c = self.rows[index], self.columns
        span = slice(int(c.annotation_start[image]), int(c.annotation_start[image + 1]))
        return self._levels(c.category[span][~c.crowd[span]])

    def learnable(self) -> tuple[tuple[int, int], dict[str, int]]:
        """((objects, parts) of these images that can be learned from, why the other annotations cannot -> how many)."""
        c = self.columns
        image = np.repeat(np.arange(len(c)), np.diff(c.annotation_start))
        span = np.isin(image, self.rows)
        size, category, box = c.image_size[image[span]], c.category[span], c.box[span]
        side = size[:, ::-1]
        nameless = self._label[category] < 0
        crowd = c.crowd[span] & ~nameless
        outside = (size > 0).all(1) & ((box[:, :2] >= side) | (box[:, 2:] <= 0)).any(1) & ~crowd & ~nameless
        good = ~(nameless | crowd | outside)
        part = self._is_part[category]
        lost = {
            "of a name that is not in the vocabulary": int(nameless.sum()), "crowds": int(crowd.sum()),
            "outside of the image": int(outside.sum()),
        }  # fmt: skip
        if len(self) == len(c):  # of a share nobody knows which of its images they belong to
            told = re.compile(r"annotations (.*) \(left out\)")
            lost.update({match[1]: count for what, count in c.issues.items() if (match := told.fullmatch(what))})
        return (int((good & ~part).sum()), int((good & part).sum())), {what: n for what, n in lost.items() if n}

    def rows_with_expressions(self) -> list[int]:
        """Images whose entry in the file has referring expressions; whether they fit shows when the image is read."""
        rows, c = np.asarray(self.rows), self.columns
        found: list[int] = np.flatnonzero(c.image_text_start[rows + 1] > c.file_name_end[rows]).tolist()
        return found

    def expressions_by_object(self) -> bool:
        """Whether the first image with expressions lists sentences by object, the deprecated form."""
        told = self.rows_with_expressions()[:1]
        return bool(told) and is_old_form(self._expression_entries(self.rows[told[0]]))

    # -- pieces --------------------------------------------------------------------------------------------------

    def _part_at(self, row: int) -> bool:
        return bool(self._is_part[self.columns.category[row]])

    def _instance(self, row: int, *, parent: int = -1) -> Instance | None:
        c = self.columns
        label = int(self._label[c.category[row]])
        if label < 0:
            return None
        x0, y0, x1, y1 = (float(v) for v in c.box[row])
        return Instance(
            label=label, box=(x0, y0, x1, y1), segmentation=self.segmentation(row), parent=parent,
            crowd=bool(c.crowd[row]), annotation_id=int(c.annotation_id[row]), attributes=self._attributes(row),
        )  # fmt: skip

    def _attributes(self, row: int) -> tuple[int, ...]:
        start, count = int(self.columns.attribute_start[row]), int(self.columns.attribute_count[row])
        return tuple(self.columns.attributes[start : start + count].tolist()) if count else ()

    def segmentation(self, row: int) -> Segmentation:
        """Polygons or run lengths of a row of the columns; None where it has only a box."""
        c = self.columns
        run = int(c.run[row])
        if run >= 0:
            counts = c.run_counts[c.run_start[run] : c.run_start[run + 1]].tobytes()
            return {"size": c.run_size[run].tolist(), "counts": counts}
        first, count = int(c.polygon_start[row]), int(c.polygon_count[row])
        polygons = []
        for polygon in range(first, first + count):
            start = int(c.coordinate_start[polygon])
            numbers = c.coordinates[start : start + int(c.coordinate_count[polygon])]
            polygons.append(tuple(as_written(numbers)))
        return tuple(polygons) or None

    def _levels(self, categories: NDArray[Any]) -> tuple[frozenset[int], frozenset[int]]:
        labels, is_part = self._label[categories], self._is_part[categories]
        known = labels >= 0
        return frozenset(labels[known & ~is_part].tolist()), frozenset(labels[known & is_part].tolist())

    def _labels_of(
        self, values: NDArray[np.int64], starts: NDArray[np.int64], image: int
    ) -> tuple[frozenset[int], frozenset[int]]:
        return self._levels(values[int(starts[image]) : int(starts[image + 1])])

    def _expressions(
        self, image: int, objects: Sequence[Instance], parts: Sequence[Instance]
    ) -> tuple[Expression, ...]:
        entries = self._expression_entries(image)
        if not entries:
            return ()
        c = self.columns
        span = slice(int(c.annotation_start[image]), int(c.annotation_start[image + 1]))
        size = tuple(c.image_size[image].tolist())
        try:
            return parse_expressions(
                entries,
                objects=[_id_inside(instance, size) for instance in objects],
                parts=[_id_inside(instance, size) for instance in parts],
                left_out=frozenset(c.annotation_id[span].tolist()),
            )
        except ValueError as error:
            joint = " " if str(error).startswith("has ") else ": "
            raise ValueError(f"image {int(c.image_id[image])}{joint}{error}") from error

    def _count_expressions(self) -> dict[str, int]:
        told = np.flatnonzero(self.columns.image_text_start[1:] > self.columns.file_name_end)
        return count_expressions(self._expression_entries(image) for image in told.tolist()) if len(told) else {}

    def _expression_entries(self, image: int) -> Any:
        """As they stand in the file; None where it has none."""
        c = self.columns
        text = c.image_text[c.file_name_end[image] : c.image_text_start[image + 1]].tobytes()
        return json.loads(text) if text else None


def _id_inside(instance: Instance, size: tuple[int, int]) -> int | None:
    """The annotation id of what shows in the image: no sentence can mean the rest. `size`: height, width; 0 unknown."""
    x0, y0, x1, y1 = instance.box
    shows = 0 in size or (x0 < size[1] and y0 < size[0] and x1 > 0 and y1 > 0)
    return instance.annotation_id if shows else None
