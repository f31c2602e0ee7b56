"""AP of boxes and masks by the rules of COCO and of LVIS, and what all detection protocols share.

Sources: the COCO and LVIS evaluation rules as in docs/evaluation.md; checked against pycocotools, faster-coco-eval
and lvis in the tests.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from partglee.evaluation.average_precision import PrecisionTable, accumulate
from partglee.evaluation.base import Evaluator, Results
from partglee.evaluation.category_map import CategoryMap
from partglee.evaluation.detection_buffer import DetectionBuffer
from partglee.evaluation.detections import Detections, judgeable, merge_states, not_exhaustive
from partglee.evaluation.ground_truth import GroundTruth
from partglee.evaluation.matching import areas_of, match
from partglee.evaluation.options import check_choices, check_count, check_flag
from partglee.structures import Prediction

KINDS = ("bbox", "segm")


class InstanceEvaluator(Evaluator):
    """Collects detections; a protocol says how to score them (`score`).

    Args:
        ground_truth: annotations, or the path or dict of a COCO/LVIS/PACO JSON.
        kinds: of "bbox" and "segm".
        category_map: how rows of a `Prediction` find their category; None = by name.
        strict: see `Evaluator`.
    """

    of_records = False  # scored against a data set's records as they are read, else against its annotation file

    def __init__(
        self,
        *,
        ground_truth: GroundTruth | str | Path | Mapping[str, Any],
        kinds: Sequence[str] = KINDS,
        category_map: CategoryMap | None = None,
        strict: bool = True,
    ) -> None:
        super().__init__(strict=strict)
        check_choices("kinds", kinds, KINDS)
        self.ground_truth = ground_truth if isinstance(ground_truth, GroundTruth) else GroundTruth.load(ground_truth)
        self.kinds = tuple(kinds)
        self.category_map = category_map or CategoryMap(ground_truth=self.ground_truth)
        self.reset()

    def reset(self) -> None:
        super().reset()
        self._buffer = DetectionBuffer(
            ground_truth=self.ground_truth, issues=self.issues, need_boxes="bbox" in self.kinds,
            need_masks="segm" in self.kinds,
        )  # fmt: skip

    def process(self, image_id: int, detections: Prediction | Iterable[Mapping[str, Any]]) -> None:
        """Add the detections of one image.

        Args:
            detections: a prediction, or COCO result rows whose `category_id` is that of the annotations.

        Raises:
            PredictionError: when something cannot be scored and the evaluator is strict.
        """
        if isinstance(detections, Prediction):
            self.process_named(image_id, detections.to_coco(image_id=image_id))
        else:
            self._buffer.add_image(image_id, detections)

    def process_named(self, image_id: int, rows: Sequence[Mapping[str, Any]], *, where: str = "") -> None:
        """Add one image's rows as `Prediction.to_coco` writes them: categories are found by name or label.

        Objects are left out, with a note, when the annotations have parts only, and parts when they have none.

        Raises:
            ValueError: for a row that `Prediction.to_coco` does not write.
        """
        place = where or f"image {image_id!r}"
        for row in rows:
            if missing := [key for key in ("id", "name", "level", "category_id") if key not in row]:
                raise ValueError(f"{place}: a result has no {missing}, but {sorted(row)}; see docs/evaluation.md")
            if row["level"] not in ("object", "part"):
                raise ValueError(f"{place}: level must be 'object' or 'part', got {row['level']!r}")
        has_parts = self.ground_truth.categories.is_part
        annotated = {"object": not has_parts.all(), "part": has_parts.any()}
        known = []
        for row in self.category_map.translate(rows):
            level = row["level"]
            if row["category_id"] is not None:
                known.append(row)
            elif not annotated[level]:
                self.issues.add("level not annotated", f"the annotations have no {level}s; {row['name']!r} is left out")
            else:
                what = f"{place}: {level} {row['name']!r} is no category of the annotations"
                self.issues.add("unknown name", what)
        self._buffer.add_image(image_id, known)

    def state(self) -> Any:
        return self._buffer.state()

    def compute(self, states: list[Any]) -> Results:
        detections = self.merged(states)
        results: Results = {}
        for kind in self.kinds:
            results.update({f"{kind}/{key}": value for key, value in self.score(detections, kind).items()})
        return results

    def merged(self, states: list[Any]) -> Detections:
        """Detections of all processes; notes what annotations cannot be scored as they should."""
        truth = self.ground_truth
        if "segm" in self.kinds:
            if truth.lost:
                row, reason = next(iter(truth.lost.items()))
                where = (
                    f"row {row}, image {truth.image_ids[truth.image[row]]}: {reason}; ignored where masks are scored"
                )
                self.issues.add("annotation without a mask", where, count=len(truth.lost))
            if empty := truth.without_pixels():
                where = f"row {empty[0]}, image {truth.image_ids[truth.image[empty[0]]]}; it counts as not found"
                self.issues.add("annotation whose mask covers no pixel", where, count=len(empty))
        return merge_states(states, self.issues, len(truth.image_ids))

    def ignore_unmatched(self, detections: Detections, kind: str) -> NDArray[np.bool_] | None:
        """(N, T) or (N, 1) detections that are ignored when they match nothing; None = none of them."""
        del detections, kind
        return None

    def score(self, detections: Detections, kind: str) -> Results:
        """Metrics of one kind ("bbox" or "segm"), rates in percent."""
        raise NotImplementedError(f"{type(self).__name__} must define score(detections, kind)")


class PrecisionEvaluator(InstanceEvaluator):
    """What COCO's and LVIS' rules share: a table of precision, its summary, and what a data set reports besides.

    Args:
        max_dets: detections that count, as the rule says.
        per_category: also report each category, `AP-<name>`.
    """

    def __init__(self, *, max_dets: int = 100, per_category: bool = False, **options: Any) -> None:
        check_count("max_dets", max_dets)
        check_flag("per_category", per_category)
        self.max_dets = max_dets
        self.per_category = per_category
        super().__init__(**options)

    @abstractmethod
    def table(self, detections: Detections, kind: str) -> PrecisionTable:
        """Precision of each category."""

    @abstractmethod
    def summary(self, table: PrecisionTable) -> Results:
        """The rule's own means, in [0, 1]; AP, AP50, AP75, APs, APm, APl are there already."""

    def breakdown(self, table: PrecisionTable, kind: str) -> Results:
        """What a data set reports besides, in [0, 1]."""
        del table, kind
        return {}

    def score(self, detections: Detections, kind: str) -> Results:
        table = self.table(detections, kind)
        results = {
            "AP": table.ap(), "AP50": table.ap(iou=0.5), "AP75": table.ap(iou=0.75),
            **{f"AP{area}": table.ap(area=area) for area in "sml"},
            **self.summary(table),
            **self.breakdown(table, kind),
        }  # fmt: skip
        if self.per_category:
            pairs = zip(self.ground_truth.categories.names, table.per_category(), strict=True)
            results.update({f"AP-{name}": float(value) for name, value in pairs})
        return {key: 100 * value for key, value in results.items()}


class CocoEvaluator(PrecisionEvaluator):
    """COCO AP: 100 detections for each image and category; crowds are ignored; AP over IoU 0.5:0.95.

    Results: AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100, ARs, ARm, ARl; with `per_category`, `AP-<name>`.
    Categories without annotations are left out of every mean.

    Args:
        max_dets: detections for each image and category.
        per_category: also report each category.
    """

    name = "COCO"

    def table(self, detections: Detections, kind: str) -> PrecisionTable:
        truth = self.ground_truth
        matches = match(
            truth, detections, kind=kind, max_per_cell=self.max_dets, ignore_truth=truth.crowd, crowd=truth.crowd,
            ignore_unmatched=self.ignore_unmatched(detections, kind),
        )  # fmt: skip
        return accumulate(matches, max_dets=(1, 10, self.max_dets))

    def summary(self, table: PrecisionTable) -> Results:
        return {
            **{f"AR{limit}": table.ar(max_dets=limit) for limit in (1, 10, self.max_dets)},
            **{f"AR{area}": table.ar(max_dets=self.max_dets, area=area) for area in "sml"},
        }


class LvisEvaluator(PrecisionEvaluator):
    """LVIS AP: 300 detections an image over all classes, federated annotations.

    Detections of a class that is neither annotated in the image nor in its `neg_category_ids` are dropped; unmatched
    detections of a class in `not_exhaustive_category_ids` are ignored; there are no crowds and there is no cap
    for a class; what has no area is left out, annotated or detected. This is not "fixed AP" (10 000 detections for each
    class over the data set).

    Results: AP, AP50, AP75, APs, APm, APl, APr, APc, APf, AR300; with `per_category`, `AP-<name>`.

    Args:
        max_dets: detections for each image, applied before any are dropped.
        per_category: also report each category.
    """

    name = "LVIS"

    def __init__(self, *, max_dets: int = 300, **options: Any) -> None:
        super().__init__(max_dets=max_dets, **options)

    def ignore_unmatched(self, detections: Detections, kind: str) -> NDArray[np.bool_]:
        del kind
        return not_exhaustive(self.ground_truth, detections)[:, None]

    def compute(self, states: list[Any]) -> Results:
        if not self.ground_truth.federated:
            detail = "no image has 'neg_category_ids', so names count only where they are annotated; 'coco' counts them"
            self.issues.add("not federated", detail)
        return super().compute(states)

    def table(self, detections: Detections, kind: str) -> PrecisionTable:
        truth = self.ground_truth
        detections = detections.select(best_of_image(detections, self.max_dets))
        detections = detections.select(np.flatnonzero(judgeable(truth, detections)))
        # The protocol's own tool reads nothing without an area, annotated or detected.
        detections = detections.select(np.flatnonzero(areas_of(detections, kind) > 0))
        matches = match(
            truth, detections, kind=kind, ignore_truth=truth.ignore | (truth.area <= 0),
            ignore_unmatched=self.ignore_unmatched(detections, kind),
        )  # fmt: skip
        return accumulate(matches)

    def summary(self, table: PrecisionTable) -> Results:
        frequency = self.ground_truth.categories.frequency
        return {
            **{f"AP{f}": table.ap(categories=[k for k, x in enumerate(frequency) if x == f]) for f in "rcf"},
            f"AR{self.max_dets}": table.ar(max_dets=None),
        }


def best_of_image(detections: Detections, limit: int) -> NDArray[np.int64]:
    """Rows of the best `limit` detections of each image over all classes, in the original order."""
    order = np.lexsort((-detections.score, detections.image))
    image = detections.image[order]
    rank = np.arange(len(order)) - np.searchsorted(image, image, side="left")
    return np.sort(order[rank < limit])
