"""PACO: AP over 531 classes, AP^obj over objects, AP^opart over part names, with both matching rules.

Rule "lvis" is the plain LVIS matcher (what VLPart and PartGLEE quote, on val); rule "official" is that of the
PACO tools (quoted on test; their README table is box AP). They differ only for detections of object-part
classes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle  # type: ignore[import-untyped, unused-ignore]

from partglee.evaluation.average_precision import PrecisionTable, mean_defined
from partglee.evaluation.base import Results
from partglee.evaluation.detections import Detections
from partglee.evaluation.instances import LvisEvaluator
from partglee.evaluation.matching import IOU_THRESHOLDS
from partglee.evaluation.options import check_choices

RULES = ("lvis", "official")


class PacoEvaluator(LvisEvaluator):
    """LVIS AP plus AP^obj, AP^opart (and the flat mean over object-parts, which is another number).

    Results besides those of LVIS: APobj, APopart, APopart_flat. Keys of rule "official" end in `@official`;
    with both rules, both sets are reported.

    Args:
        rules: of "lvis" and "official".
    """

    name = "PACO"

    def __init__(self, *, rules: Sequence[str] = ("lvis",), **options: Any) -> None:
        check_choices("rules", rules, RULES)
        self.rules = tuple(rules)
        self._rule = self.rules[0]
        super().__init__(**options)

    def score(self, detections: Detections, kind: str) -> Results:
        results: Results = {}
        for rule in self.rules:
            self._rule = rule
            suffix = "" if rule == "lvis" else f"@{rule}"
            results.update({key + suffix: value for key, value in super().score(detections, kind).items()})
        return results

    def ignore_unmatched(self, detections: Detections, kind: str) -> NDArray[np.bool_]:
        plain = super().ignore_unmatched(detections, kind)
        return plain if self._rule == "lvis" else self._official(detections, kind, plain[:, 0])

    def _official(self, detections: Detections, kind: str, plain: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(N, T) for part classes that are not exhaustive while their object class is."""
        truth, categories = self.ground_truth, self.ground_truth.categories
        object_of = {name: k for k, name in enumerate(categories.names) if not categories.is_part[k]}
        rows_of: dict[tuple[int, int], list[int]] = defaultdict(list)
        for row, cell in enumerate(zip(truth.image.tolist(), truth.category.tolist(), strict=True)):
            rows_of[cell].append(row)
        ignored = np.repeat(plain[:, None], len(IOU_THRESHOLDS), axis=1)
        for row in np.flatnonzero(plain & categories.is_part[detections.category]).tolist():
            image = int(detections.image[row])
            owner = object_of.get(categories.owner[detections.category[row]] or "")
            if owner is None or owner in truth.not_exhaustive[image]:
                continue
            objects = rows_of[image, owner]
            if not objects:
                ignored[row] = False  # nothing to overlap with
                continue
            if kind == "bbox":
                inter, area = _box_overlap(detections.boxes[row], truth.boxes[objects])
            elif not (objects := [i for i in objects if truth.has_mask[i]]):
                continue
            else:
                masks = [truth.mask(i) for i in objects]
                area = rle.area(masks).astype(np.float64)
                # iou with "crowd" is intersection over detection; one call instead of one merge for each object
                share = rle.iou([detections.mask(row)], masks, [1] * len(masks))[0]
                inter = np.rint(share * float(rle.area([detections.mask(row)])[0]))
            ignored[row] = ~not_exhaustive_false_positive(inter, area)
        return ignored

    def breakdown(self, table: PrecisionTable, kind: str) -> Results:
        del kind
        categories = self.ground_truth.categories
        values = table.per_category()
        parts = np.flatnonzero(categories.is_part)
        return {
            "APobj": mean_defined(values[~categories.is_part]),
            "APopart": object_part_ap([categories.part[k] or "" for k in parts], values[parts]),
            "APopart_flat": mean_defined(values[parts]),
        }


def object_part_ap(part_names: Sequence[str], values: Sequence[float] | NDArray[np.float64]) -> float:
    """Mean over part names of the mean over the objects that have it; NaN entries are left out, at both levels.

    Args:
        part_names: part name of each object-part class ("leg" of `dog:leg` and of `chair:leg`).
        values: AP of each class, NaN where it has no annotations.
    """
    groups: dict[str, list[float]] = defaultdict(list)
    for name, value in zip(part_names, values, strict=True):
        groups[name].append(float(value))
    return mean_defined(np.array([mean_defined(np.array(group)) for group in groups.values()]))


def not_exhaustive_false_positive(
    inter: NDArray[np.float64], object_area: NDArray[np.float64], thresholds: NDArray[np.float64] = IOU_THRESHOLDS
) -> NDArray[np.bool_]:
    """Whether the official PACO rule counts an unmatched part detection as a false positive, at each threshold.

    r = inter / (object area - inter + 1e-7), the largest over the annotated objects of the part's class. No
    overlap: false positive. r >= threshold: false positive. Otherwise ignored. (The tool's comments say the
    opposite of this; this is what it computes.)
    """
    ratio = float(np.max(inter / (object_area - inter + 1e-7)))
    return (thresholds <= ratio) | (ratio == 0)


def _box_overlap(
    box: NDArray[np.float64], objects: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Intersections with +1 on their sides (the tool's convention) and object areas without."""
    ends, object_ends = box[:2] + box[2:], objects[:, :2] + objects[:, 2:]
    sides = np.minimum(ends, object_ends) - np.maximum(box[:2], objects[:, :2]) + 1
    return np.prod(np.maximum(sides, 0), axis=1), objects[:, 2] * objects[:, 3]
