"""Hierarchical AP and parent accuracy: are the parts found, *and* is each said to belong to the right object?

Definitions (ours). A detection's parent *agrees* with an annotated part's parent when the predicted parent has the
annotated parent's category and overlaps it by IoU 0.5 (boxes for "bbox", masks for "segm").

- **hierarchical AP**: COCO AP over part categories in which a detection may match an annotated part only when their
  parents agree. A detection with a wrong parent is a false positive and leaves the annotation free for another.
- **parent accuracy**: the part detections are matched to annotated parts at IoU 0.5 by COCO's rule, parents not
  considered; of those that match, the share whose parent agrees. No predicted parent = does not agree.

Annotated parts without a parent cannot be judged: they are ignored in both (as crowds are) and counted
(`num_parts_without_parent`). Crowd parts are ignored; a crowd parent is treated as no parent.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle  # type: ignore[import-untyped, unused-ignore]

from partglee.basics.names import humanise, name_key
from partglee.evaluation.average_precision import accumulate
from partglee.evaluation.base import Results
from partglee.evaluation.detections import Detections, judgeable, not_exhaustive
from partglee.evaluation.ground_truth import GroundTruth
from partglee.evaluation.instances import InstanceEvaluator
from partglee.evaluation.matching import box_iou, mask_iou, match
from partglee.evaluation.options import check_choice, check_count, check_flag, check_number

PARENTS = ("predicted", "derived")
PARENT_IOU = 0.5
_NEVER = -1


class HierarchicalEvaluator(InstanceEvaluator):
    """Hierarchical AP and parent accuracy, see the module's text.

    Results: hAP, hAP50, hAP75, AP, AP50 (the same parts without the parent condition), parent_accuracy,
    num_matched_parts, num_parts_without_parent.

    Args:
        parents: "predicted": the detections' own. "derived": the smallest object of the image that contains the part,
            for systems that give none; any predicted ones are replaced.
        containment: share of the part's area that must lie inside the object ("derived").
        min_object_score: objects below it cannot be parents ("derived").
        same_object: the parent must be of the class that the part's category names (`dog:head` -> dog), where it names
            one ("derived").
        max_dets: part detections for each image and category.
        federated: detections of names that nobody looked for in their image are dropped, and unmatched ones of names
            that are not exhaustively annotated there are ignored. `dataset_evaluator` sets it where the data is.
    """

    name = "hierarchical"
    of_records = True

    def __init__(
        self,
        *,
        parents: str = "predicted",
        containment: float = 0.9,
        min_object_score: float = 0.0,
        same_object: bool = True,
        max_dets: int = 100,
        federated: bool = False,
        **options: Any,
    ) -> None:
        check_choice("parents", parents, PARENTS)
        check_number("containment", containment, most=1)
        check_number("min_object_score", min_object_score, least=float("-inf"))
        check_flag("same_object", same_object)
        check_count("max_dets", max_dets)
        check_flag("federated", federated)
        self.parents = parents
        self.containment = containment
        self.min_object_score = min_object_score
        self.same_object = same_object
        self.max_dets = max_dets
        self.federated = federated
        super().__init__(**options)
        if not self.ground_truth.categories.is_part.any():
            raise ValueError("the annotations have no part categories; give part_category_ids to GroundTruth.load")

    def score(self, detections: Detections, kind: str) -> Results:
        truth = self.ground_truth
        if self.federated:
            detections = detections.select(np.flatnonzero(judgeable(truth, detections)))
        if self.parents == "derived":
            detections = replace(detections, parent=self.derive(detections, kind))
        is_part = truth.categories.is_part
        detections_of_parts = np.flatnonzero(is_part[detections.category])
        agreement = ParentAgreement(truth=truth, detections=detections, kind=kind)
        parts = detections.select(detections_of_parts)
        orphan = agreement.truth_parent < 0
        common: dict[str, Any] = {
            "kind": kind, "max_per_cell": self.max_dets, "use_truth": is_part[truth.category], "crowd": truth.crowd,
            "ignore_truth": truth.crowd | orphan, "ignore_unmatched": self.ignore_unmatched(parts, kind),
        }  # fmt: skip

        def agrees(rows: NDArray[np.int64], truth_rows: NDArray[np.int64]) -> NDArray[np.bool_]:
            rows, truth_rows = np.broadcast_arrays(detections_of_parts[rows], truth_rows)
            return agreement(rows.ravel(), truth_rows.ravel()).reshape(rows.shape)

        plain = match(truth, parts, **common)
        strict = match(truth, parts, admissible=agrees, **common)
        plain_table, strict_table = accumulate(plain), accumulate(strict)
        # Parent accuracy reads the plain matches at area "all" and IoU 0.5, the first of each axis.
        matched, ignored = plain.first()
        hit = (matched >= 0) & ~ignored
        right = agrees(plain.row[hit], matched[hit])
        scored = is_part[truth.category] & ~truth.crowd
        rates = {
            "hAP": strict_table.ap(), "hAP50": strict_table.ap(iou=0.5), "hAP75": strict_table.ap(iou=0.75),
            "AP": plain_table.ap(), "AP50": plain_table.ap(iou=0.5),
            "parent_accuracy": float(right.mean()) if len(right) else float("nan"),
        }  # fmt: skip
        counts = {"num_matched_parts": float(hit.sum()), "num_parts_without_parent": float((scored & orphan).sum())}
        return {**{key: 100 * value for key, value in rates.items()}, **counts}

    def ignore_unmatched(self, detections: Detections, kind: str) -> NDArray[np.bool_] | None:
        del kind
        return not_exhaustive(self.ground_truth, detections)[:, None] if self.federated else None

    def derive(self, detections: Detections, kind: str) -> NDArray[np.int64]:
        """(N,) parent of each part: the smallest object that contains it (equal sizes: the better score), else -1."""
        categories = self.ground_truth.categories
        key_of = [name_key(humanise(name)) for name in categories.names]
        owner_of = [None if owner is None else name_key(humanise(owner)) for owner in categories.owner]
        is_part = categories.is_part[detections.category]
        area = _area(detections, kind)
        parent = np.full(len(detections), -1, np.int64)
        usable = ~is_part & (detections.score >= self.min_object_score)
        order = np.argsort(detections.image, kind="stable")
        starts = np.flatnonzero(np.diff(detections.image[order], prepend=-1))
        for rows in np.split(order, starts[1:]) if len(order) else []:
            parts, objects = rows[is_part[rows]], rows[usable[rows]]
            if not (len(parts) and len(objects)):
                continue
            objects = objects[np.lexsort((-detections.score[objects], area[objects]))]
            inside = _containment(detections, parts, objects, kind) >= self.containment
            if self.same_object:
                owners = np.array([owner_of[k] or "" for k in detections.category[parts]])
                names = np.array([key_of[k] for k in detections.category[objects]])
                inside &= (owners[:, None] == names) | (owners[:, None] == "")
            owned = inside.any(axis=1)
            parent[parts[owned]] = objects[inside[owned].argmax(axis=1)]
        return parent


class ParentAgreement:
    """Whether the parents of a detection and of an annotated part agree, for arrays of pairs."""

    def __init__(self, *, truth: GroundTruth, detections: Detections, kind: str) -> None:
        self.truth, self.detections, self.kind = truth, detections, kind
        parent = truth.parent.copy()
        known = parent >= 0
        parent[known] = np.where(truth.crowd[parent[known]], _NEVER, parent[known])
        self.truth_parent = parent
        self._known: dict[tuple[int, int], bool] = {}  # parts of one object ask the same question again and again

    def __call__(self, rows: NDArray[np.int64], truth_rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(n,) detections and (n,) annotations -> (n,) bool."""
        predicted, annotated = self.detections.parent[rows], self.truth_parent[truth_rows]
        both = (predicted >= 0) & (annotated >= 0)
        same = both & (self.detections.category[predicted] == self.truth.category[annotated])
        if self.kind == "bbox":
            return same & (box_iou(self.detections.boxes[predicted], self.truth.boxes[annotated]) >= PARENT_IOU)
        answer = np.zeros(len(rows), bool)
        for i in np.flatnonzero(same):
            pair = (int(predicted[i]), int(annotated[i]))
            if pair not in self._known:
                own, other = np.array(pair[:1]), np.array(pair[1:])
                iou = mask_iou(self.truth, self.detections, own, other, np.zeros(1, bool))
                self._known[pair] = float(iou[0, 0]) >= PARENT_IOU
            answer[i] = self._known[pair]
        return answer


def _area(detections: Detections, kind: str) -> NDArray[np.float64]:
    if kind == "bbox":
        return detections.boxes[:, 2] * detections.boxes[:, 3]
    return detections.area


def _containment(
    detections: Detections, parts: NDArray[np.int64], objects: NDArray[np.int64], kind: str
) -> NDArray[np.float64]:
    """(parts, objects) intersection over part area; that is IoU with the object as a crowd."""
    if kind == "bbox":
        return box_iou(detections.boxes[parts][:, None], detections.boxes[objects][None], crowd=True)
    masks = [detections.mask(row) for row in objects]
    share = rle.iou([detections.mask(row) for row in parts], masks, [1] * len(objects))
    return np.asarray(share, np.float64)
