"""Greedy matching of detections to annotations, as COCO and LVIS define it, for all (image, category) cells at once.

A cell is one image and one category. N detections (sorted), M annotations, T IoU thresholds, A area ranges, G
annotations of a cell. Only cells with annotations *and* detections are matched: in a large vocabulary these are
few, and their IoUs are the only ones computed. Cells with the same G form one array, in which round r matches
the r-th detection of every cell, so that no Python loop runs over detections.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle  # type: ignore[import-untyped, unused-ignore]

from partglee.evaluation.detections import Detections
from partglee.evaluation.ground_truth import GroundTruth
from partglee.evaluation.run_lengths import RunLengths
from partglee.ops import run_lengths

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
AREA_RANGES = {"all": (0.0, 1e10), "s": (0.0, 32.0**2), "m": (32.0**2, 96.0**2), "l": (96.0**2, 1e10)}

_AT_ONCE = 4096  # annotations: what is computed of them at all ranges and thresholds stays in the caches

Admissible = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.bool_]]


@dataclass(frozen=True, kw_only=True)
class Matches:
    """Detections sorted by category, score (descending), image; what each one matched.

    S of them are in cells that have annotations. In a large vocabulary these are few.
    """

    row: NDArray[np.int64]  # (N,) row in the Detections
    rank: NDArray[np.int64]  # (N,) position by score within the cell
    slot: NDArray[np.int64]  # (N,) place in the next two, -1 in a cell without annotations
    matched: NDArray[np.int32]  # (S, A, T) row of the annotation, -1 without
    ignored: NDArray[np.bool_]  # (S, A, T) neither true nor false positive
    unmatched_ignored: NDArray[np.bool_]  # (N, A, T or 1) neither true nor false positive where nothing matches
    category_start: NDArray[np.int64]  # (K + 1,) detections of category k are [start[k], start[k + 1])
    positives: NDArray[np.int64]  # (K, A) annotations that count

    def first(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """(N,) matched and ignored at the first area range and the first threshold."""
        matched, ignored = np.full(len(self.row), -1, np.int64), self.unmatched_ignored[:, 0, 0].copy()
        inside = self.slot >= 0
        matched[inside] = self.matched[self.slot[inside], 0, 0]
        ignored[inside] = self.ignored[self.slot[inside], 0, 0]
        return matched, ignored


def match(
    truth: GroundTruth,
    detections: Detections,
    *,
    kind: str,
    max_per_cell: int | None = None,
    ignore_truth: NDArray[np.bool_] | None = None,
    crowd: NDArray[np.bool_] | None = None,
    use_truth: NDArray[np.bool_] | None = None,
    ignore_unmatched: NDArray[np.bool_] | None = None,
    admissible: Admissible | None = None,
    thresholds: NDArray[np.float64] = IOU_THRESHOLDS,
    area_ranges: dict[str, tuple[float, float]] | None = None,
) -> Matches:
    """Match in score order: the free annotation of the largest IoU, at equal IoU the later one; ignored ones last.

    Args:
        kind: "bbox" or "segm".
        max_per_cell: keep so many detections for each image and category (COCO: 100); None = all.
        ignore_truth: (M,) annotations that never count, but whose detections do not count either.
        crowd: (M,) annotations that any number of detections may match, with IoU = intersection over detection.
        use_truth: (M,) annotations to score; None = all.
        ignore_unmatched: (N, T) detections that are ignored when they match nothing (LVIS: class not exhaustive).
        admissible: (rows of detections, rows of annotations) -> bool: pairs that may match at all. Asked only for
            pairs with an annotation that counts; an ignored annotation takes anything.

    Raises:
        ValueError: when masks are asked for and a detection has none. An annotation without one is ignored, and takes
            the detections that fit its box.
    """
    ranges = np.array(list((area_ranges or AREA_RANGES).values()))  # (A, 2)
    num_categories = len(truth.categories.ids)
    none = np.zeros(len(truth), bool)
    ignore_truth = none if ignore_truth is None else ignore_truth
    if kind == "segm":
        ignore_truth = ignore_truth | ~truth.has_mask
    crowd = none if crowd is None else crowd

    order, by_category = _orders(detections, num_categories)
    cell = detections.image[order] * num_categories + detections.category[order]
    begin = np.flatnonzero(np.diff(cell, prepend=-1))
    rank = np.arange(len(cell)) - np.repeat(begin, np.diff(np.append(begin, len(cell))))
    if max_per_cell is not None and (rank >= max_per_cell).any():
        kept = rank < max_per_cell
        order, cell, rank = order[kept], cell[kept], rank[kept]
    # An area range ignores the annotations outside it.
    out_of_range = (truth.area[:, None] < ranges[:, 0]) | (truth.area[:, None] > ranges[:, 1])
    ignored_truth = ignore_truth[:, None] | out_of_range  # (M, A)
    counted = np.arange(len(truth)) if use_truth is None else np.flatnonzero(use_truth)
    truth_cell = truth.image[counted] * num_categories + truth.category[counted]
    counted = counted[np.argsort(truth_cell, kind="stable")]
    truth_cell = np.sort(truth_cell)
    positives = np.zeros((num_categories, len(ranges)), np.int64)
    np.add.at(positives, truth.category[counted], ~ignored_truth[counted])

    area = areas_of(detections, kind)[order]
    outside = ((area[:, None] < ranges[:, 0]) | (area[:, None] > ranges[:, 1]))[:, :, None]  # (N, A, 1)
    if ignore_unmatched is not None:
        outside = outside | ignore_unmatched[order][:, None, :]
    groups = _groups(cell, truth_cell, counted)
    slot = np.full(len(order), -1, np.int64)
    shared = np.sort(np.concatenate([np.zeros(0, np.int64), *(rows.ravel() for rows, _ in groups)]))
    slot[shared] = np.arange(len(shared))
    matched = np.full((len(shared), len(ranges), len(thresholds)), -1, np.int32)
    ignored = np.empty(matched.shape, bool)
    ignored[:] = outside[shared]

    for group_rows, group_truth in groups:
        iou = _group_iou(truth, detections, order, group_rows, group_truth, kind, crowd)
        allowed = None
        if admissible is not None:
            allowed = admissible(order[group_rows][:, :, None], group_truth[:, None, :])
        _match_group(
            slot[group_rows], group_truth, iou, allowed, ignored_truth[group_truth], crowd[group_truth], thresholds,
            matched, ignored,
        )  # fmt: skip

    # Cells were the sort key so far; precision needs categories, with detections of all images in score order.
    position = np.full(len(detections), -1, np.int64)
    position[order] = np.arange(len(order))
    final = position[by_category]
    final = final[final >= 0]
    category = detections.category[order][final]
    return Matches(
        row=order[final], rank=rank[final], slot=slot[final], matched=matched, ignored=ignored,
        unmatched_ignored=outside[final], positives=positives,
        category_start=np.searchsorted(category, np.arange(num_categories + 1)),
    )  # fmt: skip


def _orders(detections: Detections, num_categories: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows by image, category, score (descending); and by category, score, image. Equal ones keep their order."""
    by_image = _stable(np.arange(len(detections)), detections.image)
    by_score = by_image[np.argsort(-detections.score[by_image], kind="stable")]
    by_category = _stable(by_score, detections.category)
    return _stable(by_category, detections.image), by_category


def _stable(rows: NDArray[np.int64], keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows by their keys, which are not negative; rows of one key keep their order."""
    for shift in range(0, int(keys.max(initial=0)).bit_length(), 16):  # numbers of 16 bits are sorted in linear time
        digits = (keys[rows] >> shift).astype(np.uint16)
        rows = rows[np.argsort(digits, kind="stable")]
    return rows


def areas_of(detections: Detections, kind: str) -> NDArray[np.float64]:
    """(N,) pixels of the boxes or masks.

    Raises:
        ValueError: for a detection without a mask, where masks are asked for.
    """
    if kind == "bbox":
        return detections.boxes[:, 2] * detections.boxes[:, 3]
    if np.isnan(detections.area).any():
        raise ValueError("a detection has no mask, so masks cannot be scored")
    return detections.area


def _groups(
    cell: NDArray[np.int64], truth_cell: NDArray[np.int64], truth_rows: NDArray[np.int64]
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Cells with both, grouped by (number of detections, number of annotations): positions (n, D) and rows (n, G)."""
    first = np.diff(cell, prepend=-1) != 0
    shared = cell[first][np.isin(cell[first], truth_cell)]
    starts, truth_starts = np.searchsorted(cell, shared), np.searchsorted(truth_cell, shared)
    num = np.searchsorted(cell, shared, side="right") - starts
    num_truth = np.searchsorted(truth_cell, shared, side="right") - truth_starts
    groups = []
    for d, g in np.unique(np.stack([num, num_truth], axis=1), axis=0):
        chosen = np.flatnonzero((num == d) & (num_truth == g))
        for block in np.array_split(chosen, max(1, len(chosen) * g // _AT_ONCE)):
            rows = starts[block][:, None] + np.arange(d)
            groups.append((rows, truth_rows[truth_starts[block][:, None] + np.arange(g)]))
    return groups


def _group_iou(
    truth: GroundTruth,
    detections: Detections,
    order: NDArray[np.int64],
    rows: NDArray[np.int64],
    truth_rows: NDArray[np.int64],
    kind: str,
    crowd: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """(n, D, G) IoU; for crowds intersection over detection."""
    if kind == "bbox":
        return box_iou(
            detections.boxes[order[rows]][:, :, None], truth.boxes[truth_rows][:, None], crowd[truth_rows][:, None]
        )
    n, num, num_truth = len(rows), rows.shape[1], truth_rows.shape[1]
    iou = np.zeros((n, num, num_truth))
    drawn = truth.has_mask[truth_rows].all(axis=1)
    for i in np.flatnonzero(~drawn):
        iou[i] = mask_iou(truth, detections, order[rows[i]], truth_rows[i], crowd[truth_rows[i]])
    cells, annotated = np.arange(drawn.sum() + 1), truth_rows[drawn].ravel()
    counts = RunLengths.of([truth.mask(row)["counts"] for row in annotated.tolist()])
    iou[drawn] = run_lengths.mask_ious(
        detections.counts.select(order[rows[drawn]].ravel()).texts, cells * num, counts.texts, cells * num_truth,
        crowd[annotated],
    ).reshape(-1, num, num_truth)  # fmt: skip
    return iou


def mask_iou(
    truth: GroundTruth,
    detections: Detections,
    rows: NDArray[np.int64],
    truth_rows: NDArray[np.int64],
    crowd: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """(D, G) IoU of masks, for crowds intersection over detection; of boxes where the annotation's mask is lost."""
    masks, drawn = [detections.mask(row) for row in rows], truth.has_mask[truth_rows]
    iou = np.zeros((len(rows), len(truth_rows)))
    if drawn.any():
        flags = crowd[drawn].astype(np.uint8).tolist()
        iou[:, drawn] = rle.iou(masks, [truth.mask(row) for row in truth_rows[drawn]], flags)
    if not drawn.all():
        around = np.array([rle.toBbox(mask) for mask in masks])
        boxes = np.where(np.isnan(detections.boxes[rows]), around, detections.boxes[rows])
        iou[:, ~drawn] = box_iou(boxes[:, None], truth.boxes[truth_rows[~drawn]][None], crowd[~drawn][None])
    return iou


def box_iou(
    boxes: NDArray[np.float64], others: NDArray[np.float64], crowd: NDArray[np.bool_] | bool = False
) -> NDArray[np.float64]:
    """IoU of xywh boxes (..., 4), broadcast; where `crowd`, intersection over the area of `boxes`."""
    width = np.minimum(boxes[..., 0] + boxes[..., 2], others[..., 0] + others[..., 2]) - np.maximum(
        boxes[..., 0], others[..., 0]
    )
    height = np.minimum(boxes[..., 1] + boxes[..., 3], others[..., 1] + others[..., 3]) - np.maximum(
        boxes[..., 1], others[..., 1]
    )
    inter = np.where((width > 0) & (height > 0), width * height, 0.0)
    area = boxes[..., 2] * boxes[..., 3]
    union = np.where(crowd, area, area + others[..., 2] * others[..., 3] - inter)
    return np.divide(inter, union, out=np.zeros_like(inter), where=inter > 0)


def _match_group(
    rows: NDArray[np.int64],
    truth_rows: NDArray[np.int64],
    iou: NDArray[np.float64],
    allowed: NDArray[np.bool_] | None,
    ignored_truth: NDArray[np.bool_],
    crowd: NDArray[np.bool_],
    thresholds: NDArray[np.float64],
    matched: NDArray[np.int32],
    ignored: NDArray[np.bool_],
) -> None:
    """Fill `matched` and `ignored` of n cells. rows (n, D) of these, truth_rows (n, G), ignored_truth (n, G, A)."""
    n, num_truth = truth_rows.shape
    skip = np.moveaxis(ignored_truth, 2, 1)[:, :, None, :]  # (n, A, 1, G)
    taken = np.zeros((n, skip.shape[1], len(thresholds), num_truth), bool)
    floor = np.minimum(thresholds, 1 - 1e-10)[None, None, :, None]
    cells = np.arange(n)[:, None, None]
    for r in range(rows.shape[1]):
        overlap = iou[:, r][:, None, None, :]  # (n, 1, 1, G)
        free = (overlap >= floor) & (~taken | crowd[:, None, None, :])
        counting = free & ~skip
        if allowed is not None:
            counting &= allowed[:, r][:, None, None, :]
        best, found = _last_best(overlap, counting)
        fallback, found_ignored = _last_best(overlap, free & skip)
        choice = np.where(found, best, fallback)
        hit = found | found_ignored
        where = rows[:, r]
        matched[where] = np.where(hit, truth_rows[cells, choice], -1)
        ignored[where] = np.where(hit, ~found, ignored[where])
        taken |= hit[..., None] & (np.arange(num_truth) == choice[..., None])


def _last_best(overlap: NDArray[np.float64], free: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Index of the largest overlap among the free ones (the last of equals), and whether there is one."""
    values = np.where(free, overlap, -1.0)[..., ::-1]
    return free.shape[-1] - 1 - values.argmax(axis=-1), np.asarray(free.any(axis=-1))
