"""What goes wrong in a set of detections: which images, which names for which, which sizes, which parents.

M annotations, N detections. Everything is at IoU 0.5 and above one score. An annotated part is, in this order,

- "found": matched by a part of its name (best scores choose first);
- "other name": overlapped by a detection that is left, which has another name;
- "badly placed": a detection of its name overlaps it by IoU 0.1 or more;
- "missed": nothing of the kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from partglee.evaluation.detections import Detections
from partglee.evaluation.ground_truth import GroundTruth
from partglee.evaluation.hierarchical import ParentAgreement
from partglee.evaluation.matching import box_iou, mask_iou, match

OUTCOMES = ("found", "other name", "badly placed", "missed")
PARENTS = ("right", "another object of the category", "an object of another category", "none")
_IOU, _NEAR = 0.5, 0.1


class Outcome(NamedTuple):
    """What became of one annotation."""

    truth: int  # row of the annotation
    what: str  # of OUTCOMES
    detection: int  # row of what found it, of what has the other name, or of the badly placed one; -1 without


class ImageScore(NamedTuple):
    """How well one image went, over both levels."""

    image: int  # row
    f1: float  # 2 TP / (annotations + detections); 1 where there are neither
    annotated: int
    detected: int


class ParentOutcome(NamedTuple):
    """The predicted parent of a part that was found."""

    truth: int  # row of the part
    detection: int  # row
    what: str  # of PARENTS


@dataclass(frozen=True, kw_only=True)
class ErrorAnalysis:
    """All findings."""

    kind: str  # "bbox" or "segm": what IoU was taken of
    level: str  # "part", or "object" where no part is annotated
    threshold: float  # detections below this score were not looked at
    images: tuple[ImageScore, ...]  # in the order of image rows
    outcomes: tuple[Outcome, ...]  # of every annotation of the level, crowds left out
    false_positives: tuple[int, ...]  # rows of detections of the level that are neither found nor other names
    parents: tuple[ParentOutcome, ...]  # of every part that was found and whose annotated parent is known


def analyse(truth: GroundTruth, detections: Detections, *, kind: str, threshold: float | None = None) -> ErrorAnalysis:
    """Look at every image.

    Args:
        kind: "bbox" or "segm".
        threshold: score; None = the one with the best F1 of the level at IoU 0.5.

    Raises:
        ValueError: when masks are asked for and missing.
    """
    has_parts = bool(truth.categories.is_part.any())
    of_level = truth.categories.is_part == has_parts  # (K,)
    if threshold is None:
        threshold = best_threshold(truth, detections, kind=kind, categories=of_level)
    kept = np.flatnonzero(detections.score >= threshold)
    kept = kept[np.lexsort((-detections.score[kept], detections.image[kept]))]
    wanted = np.flatnonzero(~truth.crowd)
    wanted = wanted[np.argsort(truth.image[wanted], kind="stable")]
    images = np.arange(len(truth.image_ids) + 1)
    found_at = np.searchsorted(detections.image[kept], images)
    truth_at = np.searchsorted(truth.image[wanted], images)
    scores: list[ImageScore] = []
    outcomes: list[Outcome] = []
    false_positives: list[int] = []
    for image in images[:-1]:
        rows = kept[found_at[image] : found_at[image + 1]]
        annotated = wanted[truth_at[image] : truth_at[image + 1]]
        hits = 0
        for level in (False, True):
            mine = rows[truth.categories.is_part[detections.category[rows]] == level]
            theirs = annotated[truth.categories.is_part[truth.category[annotated]] == level]
            found, unused = _outcomes(truth, detections, theirs, mine, kind)
            hits += sum(outcome.what == "found" for outcome in found)
            if level == has_parts:
                outcomes += found
                false_positives += unused
        total = len(rows) + len(annotated)
        scores.append(ImageScore(int(image), 2 * hits / total if total else 1.0, len(annotated), len(rows)))
    return ErrorAnalysis(
        kind=kind, level="part" if has_parts else "object", threshold=threshold, images=tuple(scores),
        outcomes=tuple(outcomes), false_positives=tuple(false_positives),
        parents=tuple(_parents(truth, detections, outcomes, kind) if has_parts else ()),
    )  # fmt: skip


def best_threshold(
    truth: GroundTruth, detections: Detections, *, kind: str, categories: NDArray[np.bool_] | None = None
) -> float:
    """The score at which F1 at IoU 0.5 over all detections is best; 0 without detections.

    Args:
        categories: (K,) those that count; None = all.
    """
    counted = np.ones(len(truth.categories.ids), bool) if categories is None else categories
    matches = match(
        truth, detections, kind=kind, crowd=truth.crowd, ignore_truth=truth.crowd,
        thresholds=np.array([_IOU]), area_ranges={"all": (0.0, 1e10)},
    )  # fmt: skip
    matched, ignored = matches.first()
    use = counted[detections.category[matches.row]] & ~ignored
    score = detections.score[matches.row[use]]
    if not len(score):
        return 0.0
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(matched[use][order] >= 0)
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + matches.positives[counted, 0].sum())
    return float(score[order[f1.argmax()]])


def _outcomes(
    truth: GroundTruth, detections: Detections, annotated: NDArray[np.int64], rows: NDArray[np.int64], kind: str
) -> tuple[list[Outcome], list[int]]:
    """Of one level of one image; detections come best first. Second: detections that matched nothing."""
    if not len(annotated):
        return [], rows.tolist()
    iou = _iou(truth, detections, annotated, rows, kind)  # (detections, annotations)
    same = detections.category[rows][:, None] == truth.category[annotated]
    by_name = _greedy(np.where(same, iou, 0.0), np.ones(len(annotated), bool), np.ones(len(rows), bool))
    free_rows = ~np.isin(np.arange(len(rows)), by_name)
    by_place = _greedy(iou, by_name < 0, free_rows)
    outcomes = []
    for column, row in enumerate(annotated.tolist()):
        own = np.where(same[:, column], iou[:, column], 0.0)
        if by_name[column] >= 0:
            outcomes.append(Outcome(row, "found", int(rows[by_name[column]])))
        elif by_place[column] >= 0:
            outcomes.append(Outcome(row, "other name", int(rows[by_place[column]])))
        elif len(own) and own.max() >= _NEAR:
            outcomes.append(Outcome(row, "badly placed", int(rows[own.argmax()])))
        else:
            outcomes.append(Outcome(row, "missed", -1))
    unused = free_rows & ~np.isin(np.arange(len(rows)), by_place)
    return outcomes, rows[unused].tolist()


def _greedy(iou: NDArray[np.float64], free: NDArray[np.bool_], usable: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(annotations,) the detection that each free annotation gets, -1 without; detections choose in order."""
    free = free.copy()
    chosen = np.full(iou.shape[1], -1, np.int64)
    for row in np.flatnonzero(usable):
        open_to = np.where(free, iou[row], 0.0)
        if len(open_to) and open_to.max() >= _IOU:
            chosen[open_to.argmax()] = row
            free[open_to.argmax()] = False
    return chosen


def _iou(
    truth: GroundTruth, detections: Detections, annotated: NDArray[np.int64], rows: NDArray[np.int64], kind: str
) -> NDArray[np.float64]:
    if not len(rows):
        return np.zeros((0, len(annotated)))
    if kind == "bbox":
        return box_iou(detections.boxes[rows][:, None], truth.boxes[annotated][None])
    if detections.counts.select(rows).missing.any():
        raise ValueError("a detection has no mask; analyse boxes (kind 'bbox') instead")
    # Blocks, because the C code counts in a byte where it reads its arguments.
    blocks = [rows[start : start + 200] for start in range(0, len(rows), 200)]
    parts = [mask_iou(truth, detections, block, annotated, np.zeros(len(annotated), bool)) for block in blocks]
    return np.concatenate(parts).astype(np.float64)


def _parents(truth: GroundTruth, detections: Detections, outcomes: Sequence[Outcome], kind: str) -> list[ParentOutcome]:
    agreement = ParentAgreement(truth=truth, detections=detections, kind=kind)
    with_parent = [o for o in outcomes if o.what == "found" and agreement.truth_parent[o.truth] >= 0]
    rows = np.array([o.detection for o in with_parent], np.int64)
    agrees = agreement(rows, np.array([o.truth for o in with_parent], np.int64))
    judged = []
    for outcome, right in zip(with_parent, agrees.tolist(), strict=True):
        parent = int(detections.parent[outcome.detection])
        category = truth.category[agreement.truth_parent[outcome.truth]]
        if parent < 0:
            what = PARENTS[3]
        elif right:
            what = PARENTS[0]
        else:
            what = PARENTS[1 if detections.category[parent] == category else 2]
        judged.append(ParentOutcome(outcome.truth, outcome.detection, what))
    return judged
