"""Boxes of referring expressions: one for each (RefCOCO, P@0.5), or any number and none (GREC, F1 = 1)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from partglee.evaluation.average_precision import mean_defined
from partglee.evaluation.base import Results
from partglee.evaluation.matching import box_iou
from partglee.evaluation.options import check_number
from partglee.evaluation.referring import ExpressionEvaluator, Sample

_Judged = tuple[bool, bool, bool]  # is right, is no-target, answer is empty


class _BoxEvaluator(ExpressionEvaluator[Sample]):
    """What both share: boxes and scores are looked at before they count."""

    def _checked(
        self, key: Any, boxes: NDArray[np.floating[Any]], scores: NDArray[np.floating[Any]]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Boxes (N, 4) and scores (N,); None, and an issue, where they cannot be scored."""
        boxes, scores = np.asarray(boxes, np.float64).reshape(-1, 4), np.asarray(scores, np.float64).reshape(-1)
        if len(boxes) != len(scores):
            raise ValueError(
                f"{len(boxes)} boxes and {len(scores)} scores for expression {key!r}; give one score a box"
            )
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            self.issues.add("score not finite", f"expression {key!r}: a box or score is NaN or infinite")
            return None
        if (boxes[:, 2:] < boxes[:, :2]).any():
            self.issues.add("box of negative size", f"expression {key!r}: boxes are corners x0 <= x1 and y0 <= y1")
            return None
        return boxes, scores


class GroundingBoxEvaluator(_BoxEvaluator[float]):
    """RefCOCO boxes: share of expressions whose best box has IoU >= 0.5 with the annotated box (P@0.5).

    Results: P@0.5 (percent), mIoU, num_samples.
    """

    name = "RefCOCO boxes"

    def __init__(self, *, threshold: float = 0.5, strict: bool = True) -> None:
        super().__init__(strict=strict)
        check_number("threshold", threshold, most=1)
        self.threshold = threshold

    def process(
        self,
        key: Any,
        boxes: NDArray[np.floating[Any]],
        scores: NDArray[np.floating[Any]],
        truth: NDArray[np.floating[Any]],
    ) -> None:
        """Add one expression; a model that finds nothing has N = 0 and IoU 0.

        Args:
            boxes: (N, 4) xyxy pixels.
            scores: (N,); the best one counts, the first of equals.
            truth: (4,) xyxy.
        """
        if self._is_repeated(key):
            return
        checked = self._checked(key, boxes, scores)
        if checked is None or not len(checked[0]):
            self._samples[key] = 0.0
            return
        boxes, scores = checked
        best, annotated = _xywh(boxes[scores.argmax()]), _xywh(np.asarray(truth, np.float64))
        self._samples[key] = float(box_iou(best, annotated))

    def compute(self, states: list[Any]) -> Results:
        samples = self._joined(states)
        iou = np.array(list(samples.values()))
        rates = {f"P@{self.threshold:g}": 100 * mean_defined(iou >= self.threshold), "mIoU": 100 * mean_defined(iou)}
        return {**rates, "num_samples": float(len(iou))}


class GeneralizedBoxEvaluator(_BoxEvaluator[_Judged]):
    """Generalized referring expressions by boxes (GREC): an answer is right when it has every box and no other.

    Boxes that score at least `min_score` are the answer. They are matched to the annotated ones one to one, the highest
    IoU first; a pair counts from IoU `threshold` on. A sample is right iff its F1 is 1; one without a target iff the
    answer has no box.

    Results: `F1` (share of right samples, percent), `N-acc` (samples without a target whose answer is empty), `T-acc`
    (samples with targets whose answer is not), num_samples, num_no_target.
    """

    name = "generalized referring boxes"

    def __init__(self, *, threshold: float = 0.5, min_score: float = 0.7, strict: bool = True) -> None:
        super().__init__(strict=strict)
        check_number("threshold", threshold, most=1)
        check_number("min_score", min_score, most=1)
        self.threshold, self.min_score = threshold, min_score

    def process(
        self,
        key: Any,
        boxes: NDArray[np.floating[Any]],
        scores: NDArray[np.floating[Any]],
        truth: NDArray[np.floating[Any]],
    ) -> None:
        """Add one expression.

        Args:
            boxes: (N, 4) xyxy pixels.
            scores: (N,).
            truth: (M, 4) xyxy pixels; M = 0 where nothing is meant.
        """
        if self._is_repeated(key):
            return
        checked = self._checked(key, boxes, scores)
        if checked is None:
            self.process_missing(key, truth)
            return
        boxes, scores = checked
        truth = np.asarray(truth, np.float64).reshape(-1, 4)
        kept = boxes[scores >= self.min_score]
        right = len(kept) == len(truth) == self._pairs(kept, truth)
        self._samples[key] = right, not len(truth), not len(kept)

    def process_missing(self, key: Any, truth: NDArray[np.floating[Any]]) -> None:
        """Add one expression that has no usable answer: wrong in every metric."""
        if not self._is_repeated(key):
            empty = not len(np.asarray(truth).reshape(-1, 4))
            self._samples[key] = False, empty, not empty

    def _pairs(self, boxes: NDArray[np.float64], truth: NDArray[np.float64]) -> int:
        iou = box_iou(_xywh(boxes)[:, None], _xywh(truth)[None])
        count = 0
        while iou.size and iou.max() >= self.threshold:
            row, column = np.unravel_index(iou.argmax(), iou.shape)
            iou = np.delete(np.delete(iou, row, 0), column, 1)
            count += 1
        return count

    def compute(self, states: list[Any]) -> Results:
        samples = self._joined(states)
        right, no_target, empty = np.array(list(samples.values()), bool).reshape(-1, 3).T
        rates = {
            "F1": mean_defined(right),
            "N-acc": mean_defined(empty[no_target]),
            "T-acc": mean_defined(~empty[~no_target]),
        }
        counts = {"num_samples": float(len(right)), "num_no_target": float(no_target.sum())}
        return {**{key: 100 * value for key, value in rates.items()}, **counts}


def _xywh(box: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([box[..., :2], box[..., 2:] - box[..., :2]], axis=-1)
