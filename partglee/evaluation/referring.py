"""Referring expressions: RES and GRES masks, boxes (P@0.5), and the variants of other tools as named rules.

I = pixels in both masks, U = pixels in either; "no-target" = the expression refers to nothing in the image.
Our own choice: exact integers, original resolution, IoU >= threshold, a rejected prediction has an empty mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from partglee.evaluation.base import Evaluator, Results
from partglee.evaluation.matching import box_iou
from partglee.evaluation.options import check_choice, check_count, check_flag, check_number, check_numbers

NO_TARGET_RULES = ("classifier", "mask", "either")


@dataclass(frozen=True, kw_only=True)
class ReferringRules:
    """What the published tools do differently.

    `ReferringRules()` is ours and the paper's definition; `ReferringRules(clear=False)` reproduces ReLA's code, where a
    rejected target keeps its raw mask in U; `ReferringRules(no_target="mask")` is the rule of LISA-like models.
    """

    clear: bool = True  # empty the mask of a prediction that says no-target
    no_target: str = "classifier"  # who says no-target: the "classifier", an empty "mask", or "either"
    strictly_above: bool = False  # Pr@X counts IoU > X instead of >= X
    eps: float = 0.0  # added to U in each sample's IoU
    eps_intersection: float = 0.0  # added to I too (GLEE: 1e-6 in both)
    empty_is_right: bool = False  # a sample with U = 0 has IoU 1 (LISA) instead of 0
    min_pixels: int = 0  # smaller masks are emptied (RES models on GRES data: 50)

    def __post_init__(self) -> None:
        check_choice("no_target", self.no_target, NO_TARGET_RULES)
        for flag in ("clear", "strictly_above", "empty_is_right"):
            check_flag(flag, getattr(self, flag))
        check_number("eps", self.eps)
        check_number("eps_intersection", self.eps_intersection)
        check_count("min_pixels", self.min_pixels, least=0)


def mask_counts(
    prediction: NDArray[np.bool_], truth: NDArray[np.bool_], ignore: NDArray[np.bool_] | None = None
) -> tuple[int, int]:
    """(I, U) of two masks; ignored pixels count in neither (ReasonSeg's 255)."""
    keep = True if ignore is None else ~ignore
    return int((prediction & truth & keep).sum()), int(((prediction | truth) & keep).sum())


def sample_iou(inter: int, union: int, rules: ReferringRules) -> float:
    """IoU of one sample by the rules."""
    if union == 0 and rules.empty_is_right:
        return 1.0
    below = union + rules.eps
    return (inter + rules.eps_intersection) / below if below else 0.0


class ReferringEvaluator(Evaluator):
    """Segmentation of expressions that have a target, or may have none (gRefCOCO).

    Results: mIoU (mean IoU over target samples), oIoU and cIoU (two names of sum I / sum U), gIoU (mean over
    all samples, a no-target sample counts 1 when found, else 0), Pr@X (share of target samples), N-acc
    (no-target samples found), T-acc (target samples not rejected), num_samples, num_no_target. N-acc is NaN
    without no-target samples.

    Args:
        rules: see `ReferringRules`.
        thresholds: X of Pr@X (RES: 0.5 to 0.9; GRES papers print 0.7 to 0.9).
        name: heads the results, for example the split.
    """

    name = "referring"

    def __init__(
        self,
        *,
        rules: ReferringRules | None = None,
        thresholds: Sequence[float] = (0.5, 0.6, 0.7, 0.8, 0.9),
        strict: bool = True,
    ) -> None:
        super().__init__(strict=strict)
        self.rules = rules or ReferringRules()
        check_numbers("thresholds", thresholds, most=1)
        self.thresholds = tuple(thresholds)
        self.reset()

    def reset(self) -> None:
        super().reset()
        # key -> I, U, is no-target, said no-target
        self._samples: dict[Any, tuple[int, int, bool, bool]] = {}

    def process(
        self,
        key: Any,
        prediction: NDArray[np.bool_],
        truth: NDArray[np.bool_] | None,
        *,
        says_no_target: bool = False,
        ignore: NDArray[np.bool_] | None = None,
    ) -> None:
        """Add one expression.

        Args:
            key: its name, for example (image, expression id).
            prediction: (H, W) mask at the original resolution.
            truth: (H, W) annotated mask; None or empty = no-target.
            says_no_target: the model's own answer.
            ignore: (H, W) pixels that do not count.

        Raises:
            PredictionError: for a mask of the wrong size or a key given twice, when strict; otherwise the first counts
                as `process_missing` says.
        """
        if self._is_repeated(key):
            return
        found = np.asarray(prediction, bool)
        annotated = np.zeros(found.shape, bool) if truth is None else np.asarray(truth, bool)
        if found.shape != annotated.shape:
            kind = "mask of the wrong size"
            self.issues.add(kind, f"expression {key!r}: {found.shape}, the annotation has {annotated.shape}")
            self.process_missing(key, truth)
            return
        if found.sum() < self.rules.min_pixels:
            found = np.zeros_like(found)
        empty = not found.any()
        rejected = {"classifier": says_no_target, "mask": empty, "either": says_no_target or empty}[
            self.rules.no_target
        ]
        if rejected and self.rules.clear:
            found = np.zeros_like(found)
        inter, union = mask_counts(found, annotated, ignore)
        self._samples[key] = (inter, union, not annotated.any(), bool(rejected))

    def process_missing(self, key: Any, truth: NDArray[np.bool_] | None) -> None:
        """Add one expression that has no usable answer: wrong in every metric, also where an empty mask was right."""
        if not self._is_repeated(key):
            size = 0 if truth is None else int(np.asarray(truth, bool).sum())
            self._samples[key] = (0, size, size == 0, size > 0)

    def _is_repeated(self, key: Any) -> bool:
        if key in self._samples:
            self.issues.add("image given twice", f"expression {key!r}; the first one is kept")
        return key in self._samples

    def state(self) -> Any:
        return self._samples

    def compute(self, states: list[Any]) -> Results:
        samples: dict[Any, tuple[int, int, bool, bool]] = {}
        for state in states:
            again = sum(key in samples for key in state)
            if again:
                self.issues.add("repeated by the sampler", "the same expression from two processes", count=again)
            samples = {**state, **samples}
        if not samples:
            self.issues.add("no predictions", "no expression was processed")
        table = np.array(list(samples.values()), np.int64).reshape(-1, 4)
        return self._summarise(table[:, 0], table[:, 1], table[:, 2].astype(bool), table[:, 3].astype(bool))

    def _summarise(
        self,
        inter: NDArray[np.int64],
        union: NDArray[np.int64],
        no_target: NDArray[np.bool_],
        rejected: NDArray[np.bool_],
    ) -> Results:
        inter = np.where(rejected, 0, inter)
        iou = np.array([sample_iou(int(i), int(u), self.rules) for i, u in zip(inter, union, strict=True)])
        iou = np.where(no_target, rejected.astype(float), iou) if len(iou) else iou
        # A no-target sample that was found adds nothing to either sum, whatever its raw mask was.
        summed = ~(no_target & rejected)
        target = ~no_target
        total = float(union[summed].sum())
        overall = float(inter[summed].sum()) / total if total else float("nan")
        rates = {"gIoU": _mean(iou), "cIoU": overall, "oIoU": overall, "mIoU": _mean(iou[target])}
        for x in self.thresholds:
            good = iou[target] > x if self.rules.strictly_above else iou[target] >= x
            rates[f"Pr@{x:g}"] = _mean(good)
        rates["N-acc"] = _mean(rejected[no_target])
        rates["T-acc"] = _mean(~rejected[target])
        counts = {"num_samples": float(len(inter)), "num_no_target": float(no_target.sum())}
        return {**{key: 100 * value for key, value in rates.items()}, **counts}


class GroundingBoxEvaluator(Evaluator):
    """RefCOCO boxes: share of expressions whose best box has IoU >= 0.5 with the annotated box (P@0.5).

    Results: P@0.5 (percent), mIoU, num_samples.
    """

    name = "RefCOCO boxes"

    def __init__(self, *, threshold: float = 0.5, strict: bool = True) -> None:
        super().__init__(strict=strict)
        check_number("threshold", threshold, most=1)
        self.threshold = threshold
        self.reset()

    def reset(self) -> None:
        super().reset()
        self._samples: dict[Any, float] = {}

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
        if key in self._samples:
            self.issues.add("image given twice", f"expression {key!r}; the first one is kept")
            return
        boxes, scores = np.asarray(boxes, np.float64).reshape(-1, 4), np.asarray(scores, np.float64).reshape(-1)
        if len(boxes) != len(scores):
            raise ValueError(
                f"{len(boxes)} boxes and {len(scores)} scores for expression {key!r}; give one score a box"
            )
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            self.issues.add("score not finite", f"expression {key!r}: a box or score is NaN or infinite")
            self._samples[key] = 0.0
            return
        if (boxes[:, 2:] < boxes[:, :2]).any():
            self.issues.add("box of negative size", f"expression {key!r}: boxes are corners x0 <= x1 and y0 <= y1")
            self._samples[key] = 0.0
            return
        if not len(scores):
            self._samples[key] = 0.0
            return
        best, annotated = _xywh(boxes[scores.argmax()]), _xywh(np.asarray(truth, np.float64))
        self._samples[key] = float(box_iou(best, annotated))

    def state(self) -> Any:
        return self._samples

    def compute(self, states: list[Any]) -> Results:
        samples: dict[Any, float] = {}
        for state in states:
            samples = {**state, **samples}
        if not samples:
            self.issues.add("no predictions", "no expression was processed")
        iou = np.array(list(samples.values()))
        rates = {f"P@{self.threshold:g}": 100 * _mean(iou >= self.threshold), "mIoU": 100 * _mean(iou)}
        return {**rates, "num_samples": float(len(iou))}


def part_and_object_miou(part: Sequence[float], objects: Sequence[float]) -> dict[str, float]:
    """RefCOCOm: "part", "obj", and "obj_part", which is the mean of the pooled lists and not of the two means."""
    return {"part": _mean(part), "obj": _mean(objects), "obj_part": _mean([*part, *objects])}


def _mean(values: Any) -> float:
    values = np.asarray(values, np.float64)
    return float(values.mean()) if values.size else float("nan")


def _xywh(box: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([box[..., :2], box[..., 2:] - box[..., :2]], axis=-1)
