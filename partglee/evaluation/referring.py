"""Referring expressions: masks of RES, GRES and of parts, and the variants of other tools as named rules.

I = pixels in both masks, U = pixels in either; "no-target" = the expression refers to nothing in the image.
Our own choice: exact integers, original resolution, IoU >= threshold, a rejected prediction has an empty mask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from partglee.evaluation.average_precision import mean_defined
from partglee.evaluation.base import Evaluator, Results
from partglee.evaluation.options import check_choice, check_count, check_flag, check_names, check_number, check_numbers

NO_TARGET_RULES = ("classifier", "mask", "either")
RESOLUTIONS = ("native", "squash480")
_SQUASHED = (480, 480)


@dataclass(frozen=True, kw_only=True)
class ReferringRules:
    """What the published tools do differently; `ReferringRules.named` has the sets of some.

    `ReferringRules()` is ours and the definition of the GRES paper; `ReferringRules(clear=False)` reproduces ReLA's
    code, where a rejected target keeps its raw mask in U; `ReferringRules(no_target="mask")` is the rule of LISA-like
    models.
    """

    clear: bool = True  # empty the mask of a prediction that says no-target
    no_target: str = "classifier"  # who says no-target: the "classifier", an empty "mask", or "either"
    strictly_above: bool = False  # Pr@X counts IoU > X instead of >= X
    eps: float = 0.0  # added to U in each sample's IoU
    eps_intersection: float = 0.0  # added to I too (GLEE: 1e-6 in both)
    empty_is_right: bool = False  # a sample with U = 0 has IoU 1 (LISA) instead of 0
    min_pixels: int = 0  # smaller masks are emptied (RES models on GRES data: 50)
    resolution: str = "native"  # "squash480": both masks at 480 x 480 whatever the image's shape, nearest pixels
    thresholds: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9)  # X of Pr@X

    def __post_init__(self) -> None:
        check_choice("no_target", self.no_target, NO_TARGET_RULES)
        check_choice("resolution", self.resolution, RESOLUTIONS)
        for flag in ("clear", "strictly_above", "empty_is_right"):
            check_flag(flag, getattr(self, flag))
        check_number("eps", self.eps)
        check_number("eps_intersection", self.eps_intersection)
        check_count("min_pixels", self.min_pixels, least=0)
        check_numbers("thresholds", self.thresholds, most=1)
        object.__setattr__(self, "thresholds", tuple(self.thresholds))

    @classmethod
    def named(cls, name: str = "ours", **changes: Any) -> ReferringRules:
        """The rules of a tool, of `RULE_SETS`.

        Args:
            changes: fields that are to be otherwise.

        Raises:
            ValueError: for an unknown name or field, or a value that a field does not take.
        """
        check_choice("rules", name, tuple(RULE_SETS))
        known = [entry.name for entry in fields(cls)]
        if unknown := [key for key in changes if key not in known]:
            raise ValueError(
                f"referring expressions have no option {unknown[0]!r}; there are rules, {', '.join(known)}"
            )
        return cls(**{**RULE_SETS[name], **changes})

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) that masks are compared at; None = that of the image."""
        return _SQUASHED if self.resolution == "squash480" else None


_GRES = (0.7, 0.8, 0.9)
RULE_SETS: Mapping[str, Mapping[str, Any]] = {
    "ours": {},
    # The GRES paper's words: an empty mask is a right no-target too, Pr@X counts above X.
    "paper": {"no_target": "either", "strictly_above": True, "thresholds": _GRES},
    # ReLA's code: classifier alone, masks of rejected targets stay in U, at 480 x 480.
    "rela": {"clear": False, "resolution": "squash480", "thresholds": _GRES},
    "rela_50pix": {"no_target": "mask", "min_pixels": 50, "thresholds": _GRES},  # models without a no-target head
    "lavt": {"resolution": "squash480"},
    "cris": {"strictly_above": True, "eps": 1e-6},
    "glee": {"eps": 1e-6, "eps_intersection": 1e-6},
    "lisa": {"no_target": "mask", "eps": 1e-5, "empty_is_right": True},  # LISA, GLaMM, MGLMM
}
"""What published tools do, by name: fields of `ReferringRules`."""


def squashed(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W) at another (height, width), each pixel that of the nearest centre."""
    rows, columns = (
        np.minimum(((np.arange(new) + 0.5) * old / new).astype(int), old - 1)
        for old, new in zip(mask.shape, size, strict=True)
    )
    return mask[rows[:, None], columns]


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


Sample = TypeVar("Sample")
_Counts = tuple[int, int, bool, bool]  # I, U, is no-target, said no-target


class ExpressionEvaluator(Evaluator, Generic[Sample]):
    """What evaluators of expressions share: one sample for each key, the first where a key is given twice."""

    def __init__(self, *, strict: bool = True) -> None:
        super().__init__(strict=strict)
        self.reset()

    def reset(self) -> None:
        super().reset()
        self._samples: dict[Any, Sample] = {}

    def state(self) -> Any:
        return self._samples

    def _is_repeated(self, key: Any) -> bool:
        if key in self._samples:
            self.issues.add("image given twice", f"expression {key!r}; the first one is kept")
        return key in self._samples

    def _joined(self, states: list[Any]) -> dict[Any, Sample]:
        samples: dict[Any, Sample] = {}
        for state in states:
            again = sum(key in samples for key in state)
            if again:
                self.issues.add("repeated by the sampler", "the same expression from two processes", count=again)
            samples = {**state, **samples}
        if not samples:
            self.issues.add("no predictions", "no expression was processed")
        return samples


class ReferringEvaluator(ExpressionEvaluator[_Counts]):
    """Segmentation of expressions that have a target, or may have none (gRefCOCO).

    Results: mIoU (mean IoU over target samples), oIoU and cIoU (two names of sum I / sum U), gIoU (mean over
    all samples, a no-target sample counts 1 when found, else 0), Pr@X (share of target samples), N-acc
    (no-target samples found), T-acc (target samples not rejected), num_samples, num_no_target. N-acc is NaN
    without no-target samples.

    Args:
        rules: see `ReferringRules`.
        thresholds: X of Pr@X in place of the rules' (RES: 0.5 to 0.9; GRES papers print 0.7 to 0.9).
    """

    name = "referring"

    def __init__(
        self,
        *,
        rules: ReferringRules | None = None,
        thresholds: Sequence[float] | None = None,
        strict: bool = True,
    ) -> None:
        super().__init__(strict=strict)
        self.rules = rules or ReferringRules()
        if thresholds is not None:
            check_numbers("thresholds", thresholds, most=1)
        self.thresholds = self.rules.thresholds if thresholds is None else tuple(thresholds)

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
            prediction: (H, W) mask at the original resolution, or at the one that the rules compare at.
            truth: (H, W) annotated mask; None or empty = no-target.
            says_no_target: the model's own answer.
            ignore: (H, W) pixels that do not count.

        Raises:
            PredictionError: for a mask of the wrong size or a key given twice, when strict; otherwise the first counts
                as `process_missing` says.
        """
        if self._is_repeated(key):
            return
        predicted = np.asarray(prediction, bool)
        annotated = np.zeros(predicted.shape, bool) if truth is None else np.asarray(truth, bool)
        no_target = not annotated.any()  # of the image: squashing may lose a small target
        if self.rules.size is not None and predicted.shape in (annotated.shape, self.rules.size):
            predicted, annotated = squashed(predicted, self.rules.size), squashed(annotated, self.rules.size)
            ignore = None if ignore is None else squashed(ignore, self.rules.size)
        if predicted.shape != annotated.shape:
            kind = "mask of the wrong size"
            self.issues.add(kind, f"expression {key!r}: {predicted.shape}, the annotation has {annotated.shape}")
            self.process_missing(key, truth)
            return
        if predicted.sum() < self.rules.min_pixels:
            predicted = np.zeros_like(predicted)
        empty = not predicted.any()
        rejected = {"classifier": says_no_target, "mask": empty, "either": says_no_target or empty}[
            self.rules.no_target
        ]
        if rejected and self.rules.clear:
            predicted = np.zeros_like(predicted)
        inter, union = mask_counts(predicted, annotated, ignore)
        self._samples[key] = (inter, union, no_target, bool(rejected))

    def process_missing(self, key: Any, truth: NDArray[np.bool_] | None) -> None:
        """Add one expression that has no usable answer: wrong in every metric, also where an empty mask was right."""
        if not self._is_repeated(key):
            annotated = np.zeros((1, 1), bool) if truth is None else np.asarray(truth, bool)
            no_target = not annotated.any()
            size = int((annotated if self.rules.size is None else squashed(annotated, self.rules.size)).sum())
            self._samples[key] = (0, size, no_target, not no_target)

    def compute(self, states: list[Any]) -> Results:
        samples = self._joined(states)
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
        rates = {"gIoU": mean_defined(iou), "cIoU": overall, "oIoU": overall, "mIoU": mean_defined(iou[target])}
        for x in self.thresholds:
            good = iou[target] > x if self.rules.strictly_above else iou[target] >= x
            rates[f"Pr@{x:g}"] = mean_defined(good)
        rates["N-acc"] = mean_defined(rejected[no_target])
        rates["T-acc"] = mean_defined(~rejected[target])
        counts = {"num_samples": float(len(inter)), "num_no_target": float(no_target.sum())}
        return {**{key: 100 * value for key, value in rates.items()}, **counts}


SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, float("inf"))}  # pixels of the target


class PartExpressionEvaluator(ReferringEvaluator):
    """Expressions of parts beside those of objects (RefCOCOm): every sentence is a sample.

    Results: `part/mIoU`, `object/mIoU` and `object&part/mIoU` (of the pooled samples, not the mean of the two), each
    with oIoU and Pr@X; `part names/NAME` and `part sizes/SIZE`, the mIoU of parts of that name and size; `num_parts`,
    `num_objects`. Expressions without a target are left to `ReferringEvaluator`.
    """

    name = "referring, parts and objects"

    def __init__(
        self,
        *,
        part_names: Sequence[str] = (),
        rules: ReferringRules | None = None,
        thresholds: Sequence[float] | None = None,
        strict: bool = True,
    ) -> None:
        super().__init__(rules=rules, thresholds=thresholds, strict=strict)
        check_names("part_names", part_names)
        self.part_names = tuple(dict.fromkeys(part_names))

    def reset(self) -> None:
        super().reset()
        self._kinds: dict[Any, tuple[str, int]] = {}  # key -> part name ("" = an object), pixels of the target

    def add_kind(self, key: Any, *, part: str, pixels: int) -> None:
        """What an expression means: a part of this name ("" = an object), of this size."""
        self._kinds[key] = part, pixels

    def state(self) -> Any:
        return self._samples, self._kinds

    def compute(self, states: list[Any]) -> Results:
        samples = self._joined([state for state, _ in states])
        kinds: dict[Any, tuple[str, int]] = {}
        for _, state in states:
            kinds = {**state, **kinds}
        keys = [key for key in samples if key in kinds]
        iou = {key: self._iou(samples[key]) for key in keys}
        parts, objects = ([key for key in keys if bool(kinds[key][0]) == is_part] for is_part in (True, False))
        results: Results = {}
        for level, chosen in (("part", parts), ("object", objects), ("object&part", keys)):
            table = np.array([samples[key] for key in chosen], np.int64).reshape(-1, 4)
            union = float(table[:, 1].sum())
            inter = float(table[table[:, 3] == 0, 0].sum())
            values = np.array([iou[key] for key in chosen])
            results[f"{level}/mIoU"] = 100 * mean_defined(values)
            results[f"{level}/oIoU"] = 100 * inter / union if union else float("nan")
            for x in self.thresholds:
                good = values > x if self.rules.strictly_above else values >= x
                results[f"{level}/Pr@{x:g}"] = 100 * mean_defined(good)
        for name in self.part_names:
            results[f"part names/{name}"] = 100 * mean_defined([iou[key] for key in parts if kinds[key][0] == name])
        for size, (low, high) in SIZES.items():
            results[f"part sizes/{size}"] = 100 * mean_defined(
                [iou[key] for key in parts if low <= kinds[key][1] < high]
            )
        return {**results, "num_parts": float(len(parts)), "num_objects": float(len(objects))}

    def _iou(self, sample: _Counts) -> float:
        inter, union, _, rejected = sample
        return sample_iou(0 if rejected else inter, union, self.rules)
