"""Detections as columns: collected image by image, checked, small enough for millions of rows.

N detections. Rows are COCO result dicts (`image_id`, `category_id`, `score`, `bbox` xywh and/or `segmentation`), with
`id` and `parent_id` where a part knows its object.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle  # type: ignore[import-untyped, unused-ignore]

from partglee.data.segmentation import damaged_run_lengths, is_finite, run_length_fault, wrong_run_list
from partglee.evaluation.ground_truth import RLE, GroundTruth, encode_segmentation
from partglee.evaluation.issues import InputIssues, wrong_box


@dataclass(frozen=True, kw_only=True)
class Detections:
    """Rows in the order in which they were given, image by image."""

    image: NDArray[np.int64]  # (N,) image rows of the ground truth
    category: NDArray[np.int64]  # (N,) category columns of the ground truth
    score: NDArray[np.float64]  # (N,)
    boxes: NDArray[np.float64]  # (N, 4) xywh pixels; NaN without
    counts: list[bytes | None]  # N run lengths of masks of the image's size; None without
    parent: NDArray[np.int64]  # (N,) row of the object a part belongs to, -1 without
    sizes: NDArray[np.int64]  # (I, 2) height and width of each image row

    def __len__(self) -> int:
        return len(self.image)

    def mask(self, row: int) -> RLE:
        """Run lengths as the pycocotools functions take them."""
        return {"size": [int(side) for side in self.sizes[self.image[row]]], "counts": self.counts[row]}

    def select(self, rows: NDArray[np.int64]) -> Detections:
        """Some rows; a part whose object is not among them loses its parent."""
        new = np.full(len(self) + 1, -1, np.int64)  # the last entry is what parent -1 points to
        new[rows] = np.arange(len(rows))
        return Detections(
            image=self.image[rows], category=self.category[rows], score=self.score[rows], boxes=self.boxes[rows],
            counts=[self.counts[row] for row in rows], parent=new[self.parent[rows]], sizes=self.sizes,
        )  # fmt: skip


class DetectionBuffer:
    """Collects detections of one process.

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
        self._image, self._category, self._parent = array("q"), array("q"), array("q")
        self._score, self._boxes = array("d"), array("d")
        self._counts: list[bytes | None] = []
        self._size = (-1, (0, 0))  # size of the last image asked for: all rows of an image ask

    def add_image(self, image_id: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add all detections of one image (none is fine: the image then counts as seen)."""
        image = self.ground_truth.image_index.get(image_id)
        if image is None:
            self.issues.add("unknown image", f"image {image_id!r} is not in the annotations; is it another split?")
            return
        if image in self.seen:
            self.issues.add("image given twice", f"image {image_id!r} has predictions already; the first ones are kept")
            return
        start = len(self._image)
        row_of: dict[Any, int] = {}
        links: list[tuple[int, Any]] = []
        rows = list(rows)
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
            if not self._add_row(image, image_id, entry):
                continue
            row = len(self._image) - 1
            if entry.get("id") is not None:
                row_of[entry["id"]] = row
            if entry.get("parent_id") is not None:
                links.append((row, entry["parent_id"]))
        for row, parent_id in links:
            self._parent[row] = row_of.get(parent_id, -1)
        lost = [parent_id for _, parent_id in links if parent_id not in row_of]
        if lost and not self.ground_truth.categories.is_part.all():
            detail = f"image {image_id!r} has no result with id {lost[0]!r} that a parent_id names"
            self.issues.add("parent not found", detail, count=len(lost))
        self.seen[image] = (start, len(self._image))
        if again := self._count_repeated(start):
            detail = f"image {image_id!r}: equal category, score, box and mask; was the image predicted twice?"
            self.issues.add("detection given twice", detail, count=again)

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

    def _count_repeated(self, start: int) -> int:
        """Detections from row `start` on that are equal to another one in everything."""
        pairs = list(zip(self._category[start:], self._score[start:], strict=True))
        if len(set(pairs)) == len(pairs):
            return 0
        boxes = np.array(self._boxes[4 * start :]).reshape(-1, 4).tolist()
        whole = zip(pairs, map(tuple, boxes), self._counts[start:], strict=True)
        return len(pairs) - len(set(whole))

    def _add_row(self, image: int, image_id: int, entry: Mapping[str, Any]) -> bool:
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
        self._image.append(image)
        self._category.append(category)
        self._score.append(float(score))
        self._boxes.extend(map(float, box))
        self._counts.append(counts)
        self._parent.append(-1)
        return True

    def _image_size(self, image: int) -> tuple[int, int]:
        if self._size[0] != image:
            height, width = self.sizes[image].tolist()
            self._size = (image, (height, width))
        return self._size[1]

    def _mask(self, image: int, where: str, segmentation: Any) -> bytes | None:
        size = self._image_size(image)
        # The usual case, compressed run lengths of the right size, without a function call: there can be millions.
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
        as_numpy = {name: np.array(getattr(self, f"_{name}")) for name in ("image", "category", "parent", "score")}
        for name in ("image", "category", "parent"):
            as_numpy[name] = as_numpy[name].astype(np.int64)
        as_numpy["score"] = as_numpy["score"].astype(np.float64)
        boxes = np.array(self._boxes, np.float64).reshape(-1, 4)
        return self.seen, Detections(**as_numpy, boxes=boxes, counts=self._counts, sizes=self.sizes)


def merge_states(
    states: Sequence[tuple[dict[int, tuple[int, int]], Detections]], issues: InputIssues, num_images: int
) -> Detections:
    """Detections of all processes. An image that two processes saw (samplers repeat some to give every process the same
    number) counts once, from the first; images nobody saw and an empty whole are noted."""
    seen: set[int] = set()
    parts: list[Detections] = []
    for spans, detections in states:
        again = [image for image in spans if image in seen]
        if again:
            issues.add("repeated by the sampler", f"image row {again[0]}", count=len(again))
            keep = [np.arange(*span) for image, span in spans.items() if image not in seen]
            detections = detections.select(np.concatenate(keep) if keep else np.zeros(0, np.int64))
        seen.update(spans)
        parts.append(detections)
    if num_images - len(seen):
        issues.add(
            "image without prediction",
            f"only {len(seen)} of {num_images} images have any",
            count=num_images - len(seen),
        )
    if sum(map(len, parts)) == 0:
        issues.add("no predictions", "there is not one detection, so every AP is 0")
    if len(parts) == 1:
        return parts[0]
    offsets = np.cumsum([0, *map(len, parts)])
    sizes = np.max([part.sizes for part in parts], axis=0)
    parents = [np.where(p.parent >= 0, p.parent + o, -1) for p, o in zip(parts, offsets, strict=False)]
    return Detections(
        image=np.concatenate([p.image for p in parts]), category=np.concatenate([p.category for p in parts]),
        score=np.concatenate([p.score for p in parts]), boxes=np.concatenate([p.boxes for p in parts]),
        counts=[counts for p in parts for counts in p.counts], parent=np.concatenate(parents), sizes=sizes,
    )  # fmt: skip


# -- federated annotations ------------------------------------------------------------------------------------------
# In an image only some names were looked for (LVIS, PACO, Open Images). A name that is annotated there, or in the list
# of verified absent names, can be judged; of the others nobody knows. A name that is not exhaustively annotated has
# more instances than are annotated.


def judgeable(truth: GroundTruth, detections: Detections) -> NDArray[np.bool_]:
    """(N,) whether the category of a detection is annotated in its image, as present or as absent."""
    num_categories = len(truth.categories.ids)
    absent = [image * num_categories + k for image, negative in enumerate(truth.negative) for k in negative]
    cells = np.union1d(truth.image * num_categories + truth.category, np.array(absent, np.int64))
    return np.isin(detections.image * num_categories + detections.category, cells)


def not_exhaustive(truth: GroundTruth, detections: Detections) -> NDArray[np.bool_]:
    """(N,) whether the image may have more instances of a detection's category than are annotated."""
    pairs = zip(detections.image.tolist(), detections.category.tolist(), strict=True)
    return np.fromiter((k in truth.not_exhaustive[i] for i, k in pairs), bool, len(detections))
