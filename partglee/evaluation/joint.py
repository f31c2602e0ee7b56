"""Objects, parts and the link between them in one table: what training watches."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle  # type: ignore[import-untyped, unused-ignore]

from partglee.data.annotations.entries import annotation_entries, category_entries
from partglee.data.images import image_size
from partglee.data.records import ImageRecord, Records
from partglee.data.segmentation import encode_segmentation
from partglee.evaluation.base import Results
from partglee.evaluation.category_map import CategoryMap
from partglee.evaluation.detections import Detections, judgeable, not_exhaustive
from partglee.evaluation.ground_truth import GroundTruth
from partglee.evaluation.hierarchical import HierarchicalEvaluator
from partglee.evaluation.instances import CocoEvaluator, InstanceEvaluator

_SHOWN = {"bbox": "box", "segm": "mask"}


class JointEvaluator(CocoEvaluator):
    """COCO AP of the object categories and of the part categories, and hierarchical AP where parts have parents.

    Results: `object/box/AP`, `AP50`, `AP75`, the same for `part` and for `mask`; `hierarchy/box/hAP`, `hAP50`,
    `parent_accuracy`, ... as `HierarchicalEvaluator` has them. A level without categories is left out.
    """

    name = "objects and parts"
    federated = False
    of_records = True

    def judged(self, detections: Detections) -> Detections:
        """The detections that the annotations can judge."""
        return detections

    def compute(self, states: list[Any]) -> Results:
        truth = self.ground_truth
        detections = self.judged(self.merged(states))
        is_part = truth.categories.is_part
        results: Results = {}
        for kind in self.kinds:
            table = self.table(detections, kind)
            for level, columns in (("object", np.flatnonzero(~is_part)), ("part", np.flatnonzero(is_part))):
                if len(columns) == 0:
                    continue
                for name, iou in (("AP", None), ("AP50", 0.5), ("AP75", 0.75)):
                    results[f"{level}/{_SHOWN[kind]}/{name}"] = 100 * table.ap(iou=iou, categories=columns.tolist())
            if (truth.parent[is_part[truth.category]] >= 0).any():
                linked = HierarchicalEvaluator(
                    ground_truth=truth, kinds=(kind,), max_dets=self.max_dets, federated=self.federated
                )
                scores = linked.score(detections, kind)
                results.update({f"hierarchy/{_SHOWN[kind]}/{key}": value for key, value in scores.items()})
        return results


class FederatedEvaluator(JointEvaluator):
    """`JointEvaluator` for images in which only some names were looked for, such as those of Open Images.

    A detection counts only in images whose annotations have its name, as present or as verified absent; an unmatched
    detection of a name that is not exhaustively annotated in the image is ignored. A box around a group is a crowd:
    detections that lie in it (intersection over detection at the IoU threshold) are ignored. The rest is COCO's rule,
    100 detections for each image and category. This is not the AP of the Open Images challenge.
    """

    name = "objects and parts, federated"
    federated = True

    def judged(self, detections: Detections) -> Detections:
        return detections.select(np.flatnonzero(judgeable(self.ground_truth, detections)))

    def ignore_unmatched(self, detections: Detections, kind: str) -> NDArray[np.bool_]:
        del kind
        return not_exhaustive(self.ground_truth, detections)[:, None]


_Made = TypeVar("_Made", bound=InstanceEvaluator)


def joint_evaluator(records: Records, **options: Any) -> JointEvaluator:
    """A `JointEvaluator` for what a data set's records hold; options as for `evaluator_of_records`."""
    return evaluator_of_records(JointEvaluator, records, **options)


def evaluator_of_records(
    kind: type[_Made],
    records: Records,
    *,
    by_label: bool = True,
    kinds: Sequence[str] | None = None,
    strict: bool = True,
    **options: Any,
) -> _Made:
    """An evaluator for what a data set's records hold.

    Args:
        kind: its class.
        by_label: labels of predictions are those of the records' vocabulary; False: categories are found by name.
        kinds: of "bbox" and "segm"; None: masks too when annotations have some.
        options: of the class.
    """
    truth = ground_truth_of(records)
    objects, parts = category_ids_of(records)
    if kinds is None:
        kinds = kinds_of(truth)
    labels: dict[str, Any] = {"object_category_ids": objects, "part_category_ids": parts} if by_label else {}
    category_map = CategoryMap(ground_truth=truth, **labels)
    return kind(ground_truth=truth, kinds=kinds, category_map=category_map, strict=strict, **options)


def kinds_of(truth: GroundTruth) -> tuple[str, ...]:
    """("bbox", "segm") when an annotation has a mask, or there is none at all, else ("bbox",).

    Where only some have one, the others are ignored as masks: `InstanceEvaluator` notes how many.
    """
    return ("bbox", "segm") if truth.has_mask.any() or not len(truth) else ("bbox",)


def category_ids_of(records: Records) -> tuple[list[int], list[int]]:
    """The category id of each object label and of each part label: the file's own, or new ones where it has none."""
    names = records.vocabulary
    known = getattr(records, "category_ids", None) or ([-1] * len(names.object_names), [-1] * len(names.part_names))
    new = itertools.count(1 + max((*known[0], *known[1], 0)))
    objects, parts = ([next(new) if key < 0 else key for key in ids] for ids in known)
    return objects, parts


def ground_truth_of(records: Records) -> GroundTruth:
    """Annotations of a data set as it reads them, with the category ids of `category_ids_of`.

    The area of an instance is that of its mask where it has one (files may say another).
    """
    ids = category_ids_of(records)
    categories = category_entries(records.vocabulary, ids)
    for entry in categories:
        if len(entry.get("owners", ())) != 1:
            entry.pop("owners", None)  # a part of several objects: predictions say whose it is
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(len(records)):
        record = records[index]
        size = size_of(record)
        images.append(
            {"id": record.image_id, "height": size[0], "width": size[1], "file_name": str(record.file),
             **_looked_for(record, ids)}
        )  # fmt: skip
        for entry in annotation_entries(record, ids, image_id=record.image_id, first_id=len(annotations) + 1):
            if isinstance(entry.get("segmentation"), tuple) and 0 not in size:
                mask = encode_segmentation(entry["segmentation"], size, what=f"an annotation of '{record.file}'")
                entry.update(segmentation=mask, area=float(rle.area(mask)))
            annotations.append(entry)
    content = {"images": images, "annotations": annotations, "categories": categories}
    aliases = getattr(records, "category_aliases", {})
    return GroundTruth.from_dict(content, part_category_ids=ids[1], aliases=aliases)


def size_of(record: ImageRecord) -> tuple[int, int]:
    """(height, width): as annotated, else of the image file; (0, 0) where that is not there or cannot be read."""
    if record.height and record.width:
        return record.height, record.width
    try:
        return image_size(record.source)
    except (OSError, ValueError):
        return 0, 0


def _looked_for(record: ImageRecord, ids: tuple[Sequence[int], Sequence[int]]) -> dict[str, list[int]]:
    """Of federated data: categories that were looked for and not found, and those that are not fully annotated."""
    if record.negative_objects is None:
        return {}
    return {
        key: [*(ids[0][label] for label in objects or ()), *(ids[1][label] for label in parts or ())]
        for key, objects, parts in (
            ("neg_category_ids", record.negative_objects, record.negative_parts),
            ("not_exhaustive_category_ids", record.not_exhaustive_objects, record.not_exhaustive_parts),
        )
    }
