"""Detections collected image by image, and checked.

Rows are COCO result dicts (`image_id`, `category_id`, `score`, `bbox` xywh and/or `segmentation`), with `id` and
`parent_id` where a part knows its object. N rows of one image.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle  # type: ignore[import-untyped, unused-ignore]

from partglee.data.segmentation import (
    damaged_run_lengths,
    is_finite,
    run_length_fault,
    wrong_run_list,
)
from partglee.evaluation.detections import Detections, mask_boxes
from partglee.evaluation.ground_truth import GroundTruth, encode_segmentation
from partglee.evaluation.issues import InputIssues, wrong_box
from partglee.evaluation.result_rows import ResultRows, plain_rows
from partglee.evaluation.run_lengths import RunLengths
from partglee.ops import run_lengths


@dataclass(frozen=True, slots=True)
class _Block:
    """Rows that can be scored, as columns of `Detections`; parents are places in the block."""

    image: NDArray[np.int64]
    category: NDArray[np.int64]
    score: NDArray[np.float64]
    boxes: NDArray[np.float64]
    counts: RunLengths
    area: NDArray[np.float64]
    parent: NDArray[np.int64]

    def repeated(self) -> int:
        """Rows that are equal to another one in everything."""
        pairs = list(zip(self.category.tolist(), self.score.tolist(), strict=True))
        if len(set(pairs)) == len(pairs):
            return 0
        whole = zip(pairs, map(tuple, self.boxes.tolist()), self.counts, strict=True)
        return len(pairs) - len(set(whole))


class DetectionBuffer:
    """Collects detections of one process.

    Plain rows (`ResultRows`) of an image are checked by column. Where one of them is damaged, and for rows of other
    forms, the image's rows are looked at one by one, which finds the same and can say what it is.

    Args:
        ground_truth: gives the known images and categories.
        issues: where bad rows are reported.
        need_boxes, need_masks: what every row must have. A row with a mask only gets the mask's box.
    """

    def __init__(
        self, *, ground_truth: GroundTruth, issues: InputIssues, need_boxes: bool = True, need_masks: bool = False
    ) -> None:
        self.ground_truth = ground_truth
        self.issues = issues
        self.need_boxes = need_boxes
        self.need_masks = need_masks
        self.sizes = ground_truth.image_sizes.copy()
        self.seen: dict[int, tuple[int, int]] = {}  # image row -> first detection, one past the last
        self._blocks: list[_Block] = []
        self._count = 0
        self._size = (-1, (0, 0))  # of the last image asked for: all rows of an image ask
        index = ground_truth.categories.index
        self._ids = np.array(sorted(index), np.int64)  # category ids, with their columns beside them
        self._columns = np.array([index[key] for key in self._ids.tolist()], np.int64)

    def add_image(self, image_id: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add all detections of one image (none is fine: the image then counts as seen)."""
        image = self.ground_truth.image_index.get(image_id)
        if image is None:
            self.issues.add("unknown image", f"image {image_id!r} is not in the annotations; is it another split?")
            return
        if image in self.seen:
            self.issues.add("image given twice", f"image {image_id!r} has predictions already; the first ones are kept")
            return
        if not isinstance(rows, ResultRows):
            rows = list(rows)
        plain = rows if isinstance(rows, ResultRows) else plain_rows(rows)
        block = None if plain is None else self._checked(image, image_id, plain)
        if block is None:
            block = self._one_by_one(image, image_id, list(rows))
        self.seen[image] = (self._count, self._count + len(block.score))
        self._count += len(block.score)
        self._blocks.append(block)
        if again := block.repeated():
            detail = f"image {image_id!r}: equal category, score, box and mask; was the image predicted twice?"
            self.issues.add("detection given twice", detail, count=again)

    # -- by column ---------------------------------------------------------------------------------------------------

    def _checked(self, image: int, image_id: int, rows: ResultRows) -> _Block | None:
        """The rows, if nothing is wrong with any of them."""
        place = np.searchsorted(self._ids, rows.category)
        place = np.minimum(place, len(self._ids) - 1)
        missing = rows.masks.missing
        no_box = np.isnan(rows.boxes[:, 0])
        if (self._ids[place] != rows.category).any() if len(self._ids) else len(rows):
            return None
        if missing.any() if self.need_masks else (missing & no_box).any():
            return None
        area = np.full(len(rows), np.nan)
        drawn = np.flatnonzero(~missing)
        size = self.sizes[image]
        if len(drawn):
            if not size.all() or (rows.sizes[drawn] != size).any():
                return None
            area[drawn] = run_lengths.mask_areas(rows.masks.select(drawn).texts, np.full(len(drawn), size.prod()))
            if (area[drawn] < 0).any():
                return None
        parent = self._linked(image_id, rows)
        if parent is None:
            return None
        boxes = rows.boxes
        if self.need_boxes and no_box.any():
            boxes = boxes.copy()
            boxes[no_box] = mask_boxes(rows.masks.select(np.flatnonzero(no_box)), size.tolist())
        return _Block(np.full(len(rows), image), self._columns[place], rows.score, boxes, rows.masks, area, parent)

    def _linked(self, image_id: int, rows: ResultRows) -> NDArray[np.int64] | None:
        """(N,) place of each row's object; None where ids are not unique."""
        parent = np.full(len(rows), -1, np.int64)
        if rows.parents is None:
            return parent
        ids: Sequence[Any] = [] if rows.ids is None else rows.ids
        row_of = {key: row for row, key in enumerate(ids) if key is not None}
        if len(row_of) < sum(key is not None for key in ids):
            return None
        for row, parent_id in enumerate(rows.parents):
            if parent_id is not None:
                parent[row] = row_of.get(parent_id, -1)
        self._tell_lost(image_id, [key for key in rows.parents if key is not None and key not in row_of])
        return parent

    def _tell_lost(self, image_id: int, lost: Sequence[Any]) -> None:
        if lost and not self.ground_truth.categories.is_part.all():
            detail = f"image {image_id!r} has no result with id {lost[0]!r} that a parent_id names"
            self.issues.add("parent not found", detail, count=len(lost))

    # -- one by one --------------------------------------------------------------------------------------------------

    def _one_by_one(self, image: int, image_id: int, rows: Sequence[Mapping[str, Any]]) -> _Block:
        added = _Rows()
        row_of: dict[Any, int] = {}
        links: list[tuple[int, Any]] = []
        damaged = self._damaged(image, rows)
        linked = any(entry.get("parent_id") is not None for entry in rows)
        for position, entry in enumerate(rows):
            if position in damaged:
                self.issues.add("mask unreadable", f"image {image_id!r}: {damaged[position]}")
                continue
            if linked and entry.get("id") in row_of:  # parents are named by these ids, so they must be unique
                detail = f"image {image_id!r} has two results with id {entry['id']!r}; the first is kept"
                self.issues.add("image given twice", detail)
                continue
            if not self._add_row(added, image, image_id, entry):
                continue
            row = len(added.score) - 1
            if entry.get("id") is not None:
                row_of[entry["id"]] = row
            if entry.get("parent_id") is not None:
                links.append((row, entry["parent_id"]))
        parent = np.full(len(added.score), -1, np.int64)
        for row, parent_id in links:
            parent[row] = row_of.get(parent_id, -1)
        self._tell_lost(image_id, [parent_id for _, parent_id in links if parent_id not in row_of])
        return added.block(image, self._image_size(image), parent)

    def _damaged(self, image: int, rows: Sequence[Mapping[str, Any]]) -> dict[int, str]:
        """Positions of rows whose run lengths say no mask; other faults of masks are found when they are added."""
        known = self._image_size(image)
        damaged: dict[int, str] = {}
        positions: list[int] = []
        counts: list[bytes] = []
        pixels: list[int] = []
        for position, entry in enumerate(rows):
            segmentation = entry.get("segmentation")
            if not isinstance(segmentation, dict):
                continue
            runs, size = segmentation.get("counts"), segmentation.get("size", ())
            if not isinstance(runs, (str, bytes, list)) or not isinstance(size, (list, tuple)):
                damaged[position] = "run lengths need size and counts"
                continue
            if known == (0, 0) and (what := run_length_fault(segmentation)):
                damaged[position] = what
                continue
            if len(size) != 2 or (known != (0, 0) and tuple(size) != known):
                continue
            if isinstance(runs, (str, bytes)):
                positions.append(position)
                counts.append(runs.encode() if isinstance(runs, str) else runs)
                pixels.append(int(size[0]) * int(size[1]))
            elif isinstance(runs, list) and (what := wrong_run_list(runs, int(size[0]) * int(size[1]))):
                damaged[position] = what
        faults = damaged_run_lengths(counts, pixels)
        return {**damaged, **{positions[i]: what for i, what in faults.items()}}

    def _add_row(self, added: _Rows, image: int, image_id: int, entry: Mapping[str, Any]) -> bool:
        category = self.ground_truth.categories.index.get(entry.get("category_id"))  # type: ignore[arg-type]
        where = f"image {image_id!r}"
        if category is None:
            self.issues.add(
                "unknown category", f"{where}: category {entry.get('category_id')!r} is not in the annotations"
            )
            return False
        score: Any = entry.get("score")
        if not is_finite(score):
            self.issues.add(
                "score not finite", f"{where}: score {entry.get('score')!r} of category {entry['category_id']}"
            )
            return False
        counts = None
        segmentation = entry.get("segmentation")
        if not self.need_masks and isinstance(segmentation, (list, tuple)) and self._image_size(image) == (0, 0):
            segmentation = None  # polygons of an image of unknown size, where boxes alone are scored
        if segmentation is not None:
            counts = self._mask(image, where, segmentation)
            if counts is None:
                return False
        elif self.need_masks:
            self.issues.add("no mask", f"{where}: a detection has no 'segmentation', but masks are scored")
            return False
        box = entry.get("bbox")
        if box is None or (isinstance(box, (list, tuple)) and not box):
            if counts is None:
                self.issues.add("no box", f"{where}: a detection has neither 'bbox' nor 'segmentation'")
                return False
            box = (
                rle.toBbox({"size": list(self._image_size(image)), "counts": counts})
                if self.need_boxes
                else (math.nan,) * 4
            )
        elif fault := wrong_box(box):
            self.issues.add(fault[0], f"{where}: {fault[1]}")
            return False
        added.category.append(category)
        added.score.append(float(score))
        added.boxes.append(list(map(float, box)))
        added.counts.append(counts)
        return True

    def _image_size(self, image: int) -> tuple[int, int]:
        if self._size[0] != image:
            height, width = self.sizes[image].tolist()
            self._size = (image, (height, width))
        return self._size[1]

    def _mask(self, image: int, where: str, segmentation: Any) -> bytes | None:
        size = self._image_size(image)
        if isinstance(segmentation, dict) and isinstance(segmentation.get("counts"), (str, bytes)):
            said = tuple(segmentation.get("size", ()))
            if size == (0, 0) and len(said) == 2:
                self.sizes[image] = size = said  # the annotations do not say; the first prediction does
                self._size = (image, said)
            if said == size:
                counts = segmentation["counts"]
                return counts.encode("ascii") if isinstance(counts, str) else counts
            kind = "mask of the wrong size"
            self.issues.add(kind, f"{where}: mask of size {list(said)}, the image is {list(size)} (height, width)")
            return None
        try:
            return encode_segmentation(segmentation, size, what=where)["counts"]  # type: ignore[no-any-return, unused-ignore]
        except (ValueError, KeyError, TypeError, IndexError) as error:
            kind = "mask of the wrong size" if "of size" in str(error) else "mask unreadable"
            self.issues.add(kind, f"{where}: {error}")
            return None

    def state(self) -> tuple[dict[int, tuple[int, int]], Detections]:
        """Image spans and columns, picklable."""
        lengths = np.array([len(block.score) for block in self._blocks], np.int64)
        starts = np.repeat(np.cumsum(lengths) - lengths, lengths)

        def whole(name: str, kind: Any, *shape: int) -> NDArray[Any]:
            return np.concatenate([np.zeros((0, *shape), kind), *(getattr(block, name) for block in self._blocks)])

        parent = whole("parent", np.int64)
        block = _Block(
            whole("image", np.int64), whole("category", np.int64), whole("score", np.float64),
            whole("boxes", np.float64, 4), RunLengths.joined([block.counts for block in self._blocks]),
            whole("area", np.float64), np.where(parent >= 0, parent + starts, -1),
        )  # fmt: skip
        self._blocks = [block]  # the columns of millions of rows are not held twice
        return self.seen, Detections(
            image=block.image, category=block.category, score=block.score, boxes=block.boxes, counts=block.counts,
            area=block.area, parent=block.parent, sizes=self.sizes,
        )  # fmt: skip


class _Rows:
    """Rows of one image that were looked at one by one."""

    def __init__(self) -> None:
        self.category: list[int] = []
        self.score: list[float] = []
        self.boxes: list[list[float]] = []
        self.counts: list[bytes | None] = []

    def block(self, image: int, size: tuple[int, int], parent: NDArray[np.int64]) -> _Block:
        counts = RunLengths.of(self.counts)
        area = np.full(len(counts), np.nan)
        drawn = np.flatnonzero(~counts.missing)
        pixels = np.full(len(drawn), int(size[0] * size[1]))
        area[drawn] = run_lengths.mask_areas(counts.select(drawn).texts, pixels)
        return _Block(
            np.full(len(counts), image), np.array(self.category, np.int64), np.array(self.score, np.float64),
            np.array(self.boxes, np.float64).reshape(-1, 4), counts, area, parent,
        )  # fmt: skip
