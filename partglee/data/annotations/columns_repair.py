"""What annotation files get wrong, handled on whole columns and counted.

M annotations, P polygons, R run-length masks.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle  # type: ignore[import-untyped, unused-ignore]

from partglee.data.segmentation import (
    FAR,
    FEW,
    FLAT,
    LONG,
    NOT_FINITE,
    damaged_run_lengths,
    encode_segmentation,
    polygon_faults,
)

Ints = NDArray[np.int64]
_BLOCK = 1 << 16  # polygons measured at a time, to bound the memory
_RUNS = 1 << 12  # run-length masks measured at a time
_TOLD = {
    FEW: "polygons of fewer than three points (left out)",
    FLAT: "polygons without area or with bad numbers (left out)",
    NOT_FINITE: "polygons without area or with bad numbers (left out)",
    FAR: "polygons that reach more than one image side outside of their image (left out)",
    LONG: "polygons with an outline that is longer than any image needs (left out)",
}


class Shapes(NamedTuple):
    """Segmentations of M annotations, without the polygons that enclose nothing."""

    polygon_start: Ints  # (M,)
    polygon_count: NDArray[np.int32]  # (M,)
    coordinate_start: Ints  # (P,)
    coordinate_count: NDArray[np.int32]  # (P,)
    coordinates: NDArray[Any]
    run: Ints  # (M,) -1 for none
    run_size: NDArray[np.int32]  # (R, 2)
    run_start: Ints  # (R + 1,)
    run_counts: NDArray[np.uint8]
    size: Ints  # (M, 2) height and width of the image, 0 unknown

    @classmethod
    def of(cls, parsed: Any, size: Ints) -> Shapes:
        """From the parser's growing columns; polygons that enclose nothing or lie far outside are left out.

        Args:
            size: (M, 2) height and width of each annotation's image, 0 unknown.
        """
        coordinates = np.frombuffer(parsed.coordinates, np.float64)
        starts = np.array([0, *parsed.coordinate_end], np.int64)
        lengths = np.diff(starts)
        owner = np.repeat(np.arange(len(size)), np.diff([0, *parsed.polygon_end]))
        good = np.ones(len(lengths), bool)
        for begin in range(0, len(lengths), _BLOCK):
            rows = slice(begin, begin + _BLOCK)
            faults = polygon_faults(coordinates, starts[:-1][rows], lengths[rows], size[owner[rows]])
            good[rows] = faults == 0
            for fault, what in _TOLD.items():
                if count := int((faults == fault).sum()):
                    parsed.issues[what] += count
        kept_before = np.concatenate([[0], np.cumsum(good)])
        polygon_ends = kept_before[np.array([0, *parsed.polygon_end], np.int64)]
        return cls(
            polygon_start=polygon_ends[:-1],
            polygon_count=np.diff(polygon_ends).astype(np.int32),
            coordinate_start=starts[:-1][good],
            coordinate_count=lengths[good].astype(np.int32),
            coordinates=_narrow(coordinates),
            run=np.array(parsed.run, np.int64),
            run_size=np.array(parsed.run_size, np.int32).reshape(-1, 2),
            run_start=np.array([0, *parsed.run_end], np.int64),
            run_counts=np.frombuffer(bytes(parsed.run_counts), np.uint8),
            size=size,
        )

    def bounds(self, row: int) -> NDArray[np.float64] | None:
        """xyxy around what annotation `row` covers; None when that is nothing."""
        if self.run[row] >= 0:
            run = int(self.run[row])
            counts = self.run_counts[self.run_start[run] : self.run_start[run + 1]].tobytes()
            x, y, w, h = rle.toBbox({"size": self.run_size[run].tolist(), "counts": counts})
            return np.array([x, y, x + w, y + h]) if w > 0 and h > 0 else None
        first, count = int(self.polygon_start[row]), int(self.polygon_count[row])
        if not count:
            return None
        spans = zip(
            self.coordinate_start[first : first + count], self.coordinate_count[first : first + count], strict=True
        )
        polygons = [as_written(self.coordinates[s : s + n]) for s, n in spans]
        if self.size[row].all():  # as predictions without a box get theirs: around the pixels
            height, width = (int(side) for side in self.size[row])
            x, y, w, h = rle.toBbox(encode_segmentation(polygons, (height, width), what="an annotation"))
            return np.array([x, y, x + w, y + h]) if w > 0 and h > 0 else None
        points = np.concatenate([np.reshape(polygon, (-1, 2)) for polygon in polygons])
        return np.concatenate([points.min(0), points.max(0)])


def _narrow(coordinates: NDArray[np.float64]) -> NDArray[Any]:
    """float32 where that gives the numbers of the file again (`as_written`), which halves a column of millions."""
    for begin in range(0, len(coordinates), _BLOCK):
        block = coordinates[begin : begin + _BLOCK]
        with np.errstate(over="ignore"):
            again = np.round(block.astype(np.float32).astype(np.float64), 3)
        if not np.array_equal(again, block, equal_nan=True):
            return coordinates
    return coordinates.astype(np.float32)


def as_written(numbers: NDArray[Any]) -> list[float]:
    """Coordinates with the decimals of the file: one of x.1 or x.3 lies where rasterising rounds up or down."""
    if numbers.dtype == np.float64:
        return numbers.tolist()  # type: ignore[no-any-return]
    return np.round(numbers.astype(np.float64), 3).tolist()  # type: ignore[no-any-return]


def check_runs(parsed: Any, size: Ints) -> None:
    """ValueError for run lengths that are damaged or not of their image's size: targets would be what lies in memory.

    Args:
        size: (M, 2) height and width of each annotation's image, 0 unknown.
    """
    rows = np.flatnonzero(np.array(parsed.run, np.int64) >= 0)
    said = np.array(parsed.run_size, np.int64).reshape(-1, 2)
    ends = np.array([0, *parsed.run_end], np.int64)
    for begin in range(0, len(rows), _RUNS):
        block = range(begin, min(begin + _RUNS, len(rows)))
        counts = [bytes(parsed.run_counts[ends[run] : ends[run + 1]]) for run in block]
        faults = damaged_run_lengths(counts, said[block.start : block.stop].prod(1).tolist())
        for place, row in enumerate(rows[block.start : block.stop].tolist()):
            of_image, own = size[row].tolist(), said[begin + place].tolist()
            fault = faults.get(place)
            if fault is None and 0 not in of_image and of_image != own:
                fault = f"its mask is of size {own}, but the image is {of_image} (height, width)"
            if fault is not None:
                raise ValueError(f"annotation {parsed.annotation_id[row]} of image {parsed.image[row]}: {fault}")


def count_boxes_outside(box: NDArray[np.float64], size: Ints, image: Ints, issues: Counter[str]) -> None:
    """Tell what boxes (M, 4) xywh and the sizes (M, 2) of their images say against each other."""
    low, high = box[:, :2], box[:, :2] + box[:, 2:]
    known = (size > 0).all(1) & np.isfinite(box).all(1)
    side = size[:, ::-1]  # width, height
    outside = known & ((low >= side) | (high <= 0)).any(1)
    over = known & ~outside & ((low < -1) | (high > side + 1)).any(1)
    if count := int(outside.sum()):
        issues["boxes outside of their image (kept in evaluation, never trained with)"] = count
    if count := int(over.sum()):
        issues["boxes over the edge of their image (kept in evaluation, cut off in training)"] = count
    turned = known & (low >= -1).all(1) & (high <= size + 1).all(1)  # it fits where the sides are swapped
    images = np.setdiff1d(image[outside | over], image[known & ~turned])
    if len(images):
        issues["images whose boxes fit only when height and width are swapped"] = len(images)


def repair_boxes(
    shapes: Shapes, box: NDArray[np.float64], issues: Counter[str], *, expected: bool = True
) -> NDArray[np.float64]:
    """(M, 4) xyxy from xywh. Boxes that enclose nothing are taken from the mask, or become NaN.

    Args:
        expected: False: a file of this form has no boxes, and none is missed.
    """
    fixed = np.concatenate([box[:, :2], box[:, :2] + box[:, 2:]], axis=1)
    fixed[~np.isfinite(box).all(1) | (box[:, 2:] <= 0).any(1)] = np.nan
    for row in np.flatnonzero(np.isnan(fixed).any(1)):
        bounds = shapes.bounds(int(row))
        if bounds is None:
            issues["annotations without box and mask (left out)"] += 1
        else:
            if expected:
                issues["boxes missing or of no width (taken from the mask)"] += 1
            fixed[row] = bounds
    return fixed


def check_unique(ids: Ints, what: str) -> None:
    values, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise ValueError(f"{what} id {values[counts > 1][0]} is given twice; make the ids unique")


def rows_of(wanted: Ints, ids: Ints) -> Ints:
    """Position of each wanted id among the ids, -1 where it is not there."""
    if not len(ids):
        return np.full(len(wanted), -1)
    order = np.argsort(ids, kind="stable")
    place = np.searchsorted(ids[order], wanted).clip(max=len(ids) - 1)
    rows = order[place]
    return np.where(ids[rows] == wanted, rows, -1)


def follow_links(ids: Ints, parents: Ints, image: Ints, issues: Counter[str]) -> Ints:
    """(M,) row of the annotation that each one names as its parent, in the same image; 0 names nobody."""
    if zero := int((ids == 0).sum()):
        issues["annotations with id 0 (kept; links to 0 mean unknown)"] = zero
    values, code = np.unique(ids, return_inverse=True)
    if twice := len(ids) - len(values) - max(zero - 1, 0):
        issues["annotation ids given twice (kept; links go to the first in the same image)"] = twice
    wanted = rows_of(parents, values)
    # An id and its image as one number: a link never leaves its image, whatever other images call their annotations.
    key = image * np.int64(max(len(values), 1)) + code
    target = np.where((parents != 0) & (wanted >= 0), image * np.int64(max(len(values), 1)) + wanted, -1)
    rows = rows_of(target, key)
    if lost := int(((parents != 0) & (rows < 0)).sum()):
        issues["parent links to no annotation of the same image (read as unknown)"] = lost
    return rows
