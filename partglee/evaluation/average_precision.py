"""From matches to average precision: 101 recall points, as COCO and LVIS define it.

K categories, A area ranges, T IoU thresholds, R = 101 recall points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from partglee.evaluation.matching import AREA_RANGES, IOU_THRESHOLDS, Matches

RECALL_POINTS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True, kw_only=True)
class PrecisionTable:
    """Average precision and recall in [0, 1]; NaN for a category without annotations that count."""

    precision: NDArray[np.float64]  # (K, A, T) mean over the recall points
    recall: dict[int | None, NDArray[np.float64]]  # best-n detections per cell -> (K, A, T); None = all
    thresholds: NDArray[np.float64]
    area_names: tuple[str, ...]

    def ap(self, *, iou: float | None = None, area: str = "all", categories: Sequence[int] | None = None) -> float:
        """Mean over categories (None = all), and over thresholds unless one is named; NaN when nothing is defined."""
        return mean_defined(self._values(self.precision, iou, area, categories))

    def ar(self, *, max_dets: int | None, area: str = "all") -> float:
        """Mean recall over categories and thresholds with the best `max_dets` detections of each cell."""
        return mean_defined(self._values(self.recall[max_dets], None, area, None))

    def per_category(self, *, iou: float | None = None, area: str = "all") -> NDArray[np.float64]:
        """(K,) AP of each category."""
        return self._values(self.precision, iou, area, None).mean(axis=1)

    def _values(
        self, table: NDArray[np.float64], iou: float | None, area: str, categories: Sequence[int] | None
    ) -> NDArray[np.float64]:
        chosen = table[:, self.area_names.index(area)]
        if categories is not None:
            chosen = chosen[np.asarray(categories, np.int64)]
        return chosen if iou is None else chosen[:, np.isclose(self.thresholds, iou)]


def mean_defined(values: ArrayLike) -> float:
    """Mean without NaN; NaN when nothing is left."""
    numbers = np.asarray(values, np.float64)
    defined = numbers[~np.isnan(numbers)]
    return float(defined.mean()) if defined.size else float("nan")


def accumulate(
    matches: Matches,
    *,
    max_dets: Sequence[int | None] = (None,),
    thresholds: NDArray[np.float64] = IOU_THRESHOLDS,
    area_names: Sequence[str] = tuple(AREA_RANGES),
) -> PrecisionTable:
    """Precision over recall for each category, area range and threshold.

    Args:
        max_dets: recall is also given for the best n detections of each cell; precision uses all matched ones.
    """
    num_categories, num_areas = matches.positives.shape
    shape = (num_categories, num_areas, len(thresholds))
    precision = np.full(shape, np.nan)
    recall = {limit: np.full(shape, np.nan) for limit in max_dets}
    for k in range(num_categories):
        rows = slice(matches.category_start[k], matches.category_start[k + 1])
        hit, place = _hits(matches, rows)
        rank = matches.rank[rows][matches.slot[rows] >= 0]
        positives = matches.positives[k]
        for a in np.flatnonzero(positives):
            for limit, table in recall.items():
                inside = slice(None) if limit is None else rank < limit
                table[k, a] = hit[inside, a].sum(axis=0) / positives[a]
            for t in range(len(thresholds)):
                precision[k, a, t] = _average_precision(place[hit[:, a, t], a, t], int(positives[a]))
    return PrecisionTable(precision=precision, recall=recall, thresholds=thresholds, area_names=tuple(area_names))


def _hits(matches: Matches, rows: slice) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Of the detections of one category in cells with annotations, in order: (s, A, T) whether each is a true positive,
    and how many of the category's detections count up to and with it."""
    slot = matches.slot[rows]
    inside = np.flatnonzero(slot >= 0)
    ignored, matched = matches.ignored[slot[inside]], matches.matched[slot[inside]]
    unmatched = matches.unmatched_ignored[rows]  # of all; a match changes it in some of those inside
    place = np.cumsum(~unmatched, axis=0, dtype=np.int64)[inside]
    place = place + np.cumsum(unmatched[inside].astype(np.int8) - ignored.astype(np.int8), axis=0, dtype=np.int64)
    return (matched >= 0) & ~ignored, place


def average_precision(hits: NDArray[np.bool_], positives: int) -> float:
    """Mean of the precision envelope at 101 recalls.

    Args:
        hits: true positive or not, best score first, ignored detections left out.
        positives: number of annotations, at least 1.
    """
    return _average_precision(np.flatnonzero(hits) + 1, positives)


def _average_precision(places: NDArray[np.int64], positives: int) -> float:
    """The same from the places of the true positives, from 1 on. Between two of them precision only falls."""
    if not len(places):
        return 0.0
    true = np.arange(1, len(places) + 1)
    # eps as in both reference tools: it is part of the sixth decimal.
    curve = true / (places + np.spacing(1.0))
    envelope = np.maximum.accumulate(curve[::-1])[::-1]
    index = np.searchsorted(true / positives, RECALL_POINTS, side="left")
    reached = index < len(places)
    return float(envelope[index[reached]].sum() / len(RECALL_POINTS))
