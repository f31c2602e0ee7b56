"""What annotation files get wrong, handled on whole columns and counted.

M annotations, P polygons, R run-length masks.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle  # type: ignore[import-untyped, unused-ignore]

Ints = NDArray[np.int64]
_BLOCK = 1 << 16  # polygons measured at a time, to bound the memory


class Shapes(NamedTuple):
    """Segmentations of M annotations, without the polygons that enclose nothing."""

    polygon_start: Ints  # (M,)
    polygon_count: NDArray[np.int32]  # (M,)
    coordinate_start: Ints  # (P,)
    coordinate_count: NDArray[np.int32]  # (P,)
    coordinates: NDArray[np.float32]
    run: Ints  # (M,) -1 for none
    run_size: NDArray[np.int32]  # (R, 2)
    run_start: Ints  # (R + 1,)
    run_counts: NDArray[np.uint8]

    @classmethod
    def of(cls, parsed: Any) -> Shapes:
        """From the parser's growing columns; polygons of fewer than three points or without area are left out."""
        coordinates = np.frombuffer(parsed.coordinates, np.float32)
        starts = np.array([0, *parsed.coordinate_end], np.int64)
        lengths = np.diff(starts)
        good, few, flat = _usable(coordinates, starts[:-1], lengths)
        if few:
            parsed.issues["polygons of fewer than three points (left out)"] = few
        if flat:
            parsed.issues["polygons without area or with bad numbers (left out)"] = flat
        kept_before = np.concatenate([[0], np.cumsum(good)])
        polygon_ends = kept_before[np.array([0, *parsed.polygon_end], np.int64)]
        return cls(
            polygon_start=polygon_ends[:-1],
            polygon_count=np.diff(polygon_ends).astype(np.int32),
            coordinate_start=starts[:-1][good],
            coordinate_count=lengths[good].astype(np.int32),
            coordinates=coordinates,
            run=np.array(parsed.run, np.int64),
            run_size=np.array(parsed.run_size, np.int32).reshape(-1, 2),
            run_start=np.array([0, *parsed.run_end], np.int64),
            run_counts=np.frombuffer(bytes(parsed.run_counts), np.uint8),
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
        points = np.concatenate([self.coordinates[s : s + n].reshape(-1, 2) for s, n in spans]).astype(np.float64)
        return np.concatenate([points.min(0), points.max(0)])


def _usable(coordinates: NDArray[np.float32], starts: Ints, lengths: Ints) -> tuple[NDArray[np.bool_], int, int]:
    """(P,) bool and the counts of polygons with too few points and of those without area."""
    enough = (lengths >= 6) & (lengths % 2 == 0)
    area = np.zeros(len(starts))
    for begin in range(0, len(starts), _BLOCK):
        rows = begin + np.flatnonzero(enough[begin : begin + _BLOCK])
        if len(rows):
            area[rows] = _areas(coordinates, starts[rows], lengths[rows])
    good = enough & (area > 0)  # NaN compares as False
    return good, int((~enough).sum()), int((enough & ~good).sum())


def _areas(coordinates: NDArray[np.float32], starts: Ints, lengths: Ints) -> NDArray[np.float64]:
    """(P,) areas by the shoelace formula, polygons of at least three points."""
    points = lengths // 2
    first = np.concatenate([[0], np.cumsum(points)[:-1]])
    owner = np.repeat(np.arange(len(starts)), points)
    place = np.arange(len(owner)) - first[owner]
    at = starts[owner] + 2 * place
    following = starts[owner] + 2 * ((place + 1) % points[owner])
    # Relative to the polygon's first point: float32 coordinates of a thin polygon would cancel otherwise.
    x0, y0 = (coordinates[starts + axis].astype(np.float64)[owner] for axis in (0, 1))
    x, y = coordinates[at] - x0, coordinates[at + 1] - y0
    next_x, next_y = coordinates[following] - x0, coordinates[following + 1] - y0
    return np.abs(np.add.reduceat(x * next_y - y * next_x, first)) / 2


def repair_boxes(shapes: Shapes, box: NDArray[np.float64], issues: Counter[str]) -> NDArray[np.float64]:
    """(M, 4) xyxy from xywh. Boxes that enclose nothing are taken from the mask, or become NaN."""
    fixed = np.concatenate([box[:, :2], box[:, :2] + box[:, 2:]], axis=1)
    fixed[~np.isfinite(box).all(1) | (box[:, 2:] <= 0).any(1)] = np.nan
    for row in np.flatnonzero(np.isnan(fixed).any(1)):
        bounds = shapes.bounds(int(row))
        if bounds is None:
            issues["annotations without box and mask (left out)"] += 1
        else:
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
