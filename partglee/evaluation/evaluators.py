"""Evaluators by name, and the one that scores the detections of a registered data set."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from partglee.basics.files import read_json
from partglee.basics.names import nearest
from partglee.data.records import Records
from partglee.data.spec import DatasetSpec
from partglee.evaluation.base import Evaluator
from partglee.evaluation.category_map import CategoryMap
from partglee.evaluation.hierarchical import HierarchicalEvaluator
from partglee.evaluation.instances import CocoEvaluator, InstanceEvaluator, LvisEvaluator
from partglee.evaluation.joint import (
    FederatedEvaluator,
    JointEvaluator,
    category_ids_of,
    evaluator_of_records,
    kinds_of,
    size_of,
)
from partglee.evaluation.paco import PacoEvaluator
from partglee.evaluation.part_sets import PartImageNetEvaluator, PartSetEvaluator, PascalPartEvaluator
from partglee.evaluation.referring import PartExpressionEvaluator, ReferringEvaluator
from partglee.evaluation.referring_boxes import GeneralizedBoxEvaluator, GroundingBoxEvaluator
from partglee.evaluation.semantic_parts import SemanticPartEvaluator

EVALUATORS: dict[str, type[Evaluator]] = {
    "coco": CocoEvaluator,
    "federated": FederatedEvaluator,
    "hierarchical": HierarchicalEvaluator,
    "joint": JointEvaluator,
    "lvis": LvisEvaluator,
    "paco": PacoEvaluator,
    "partimagenet": PartImageNetEvaluator,
    "parts": PartSetEvaluator,
    "pascal_part": PascalPartEvaluator,
    "grec": GeneralizedBoxEvaluator,
    "refcoco_boxes": GroundingBoxEvaluator,
    "referring": ReferringEvaluator,
    "referring_parts": PartExpressionEvaluator,
    "semantic_parts": SemanticPartEvaluator,
}


def build_evaluator(name: str, **options: Any) -> Evaluator:
    """An evaluator by name.

    Args:
        options: keyword arguments of its class, for example `ground_truth`.

    Raises:
        ValueError: for a name that does not exist.
    """
    return evaluator_class(name)(**options)


def evaluator_name(spec: DatasetSpec, records: Records) -> str:
    """What scores a data set when nobody says another: the spec's own, or else `joint`, or `federated` where the images
    say which names were looked for (plain AP would count names that nobody looked for as wrong)."""
    return spec.evaluator or ("federated" if is_federated(records) else "joint")


def is_federated(records: Records) -> bool:
    """Whether images say which names were looked for and not found."""
    return len(records) > 0 and records[0].negative_objects is not None


def dataset_evaluator(
    spec: DatasetSpec,
    records: Records,
    *,
    key: str | type[InstanceEvaluator] | None = None,
    by_label: bool = True,
    kinds: Sequence[str] | None = None,
    strict: bool = True,
    **options: Any,
) -> InstanceEvaluator:
    """What scores the detections of a data set.

    Args:
        records: of the spec, read.
        key: name or class of the evaluator; None = the data set's own, for a set without one both levels and their
            links (`joint`, or `federated` where the images say which names were looked for). These and `hierarchical`
            are scored against the records, every other one against the annotation file as it is, reduced to the images
            of this split (`InstanceEvaluator.of_records`).
        by_label: labels of predictions are those of the records' vocabulary; False: categories are found by name.
        kinds: of "bbox" and "segm"; None: masks too when annotations have some.
        options: keyword arguments of the evaluator.

    Raises:
        ValueError: for an evaluator that does not exist, takes no detections (referring expressions, part maps) or
            is for federated data when these are not, and for an option that it does not have.
    """
    name = evaluator_name(spec, records) if key is None else key or "joint"
    kind = evaluator_class(name) if isinstance(name, str) else name
    check_options(name, options)
    if not issubclass(kind, InstanceEvaluator):
        takers = [n for n, known in EVALUATORS.items() if issubclass(known, InstanceEvaluator)]
        raise ValueError(
            f"data set {spec.name!r} is scored by {name!r}, which takes no detections; evaluators of detections are "
            f"{', '.join(takers)}"
        )
    if issubclass(kind, FederatedEvaluator) and not is_federated(records):
        raise ValueError(
            f"data set {spec.name!r} is not federated: its images have no 'neg_category_ids' that say which names were "
            "looked for and not found; choose 'joint' or 'coco'"
        )
    if kind.of_records:
        if issubclass(kind, HierarchicalEvaluator):
            options.setdefault("federated", is_federated(records))
        return evaluator_of_records(kind, records, by_label=by_label, kinds=kinds, strict=strict, **options)
    content = _annotations(spec, records)
    try:
        evaluator = kind(ground_truth=content, kinds=("bbox",) if kinds is None else kinds, strict=strict, **options)
    except ValueError as error:
        raise ValueError(f"annotation file '{spec.annotation_path}': {error}") from error
    if kinds is None:
        truth = evaluator.ground_truth  # as this evaluator reads the names
        evaluator = kind(ground_truth=truth, kinds=kinds_of(truth), strict=strict, **options)
    if by_label:
        objects, parts = category_ids_of(records)
        evaluator.category_map = CategoryMap(
            ground_truth=evaluator.ground_truth, object_category_ids=objects, part_category_ids=parts
        )
    return evaluator


def evaluator_class(name: str) -> type[Evaluator]:
    """The class of an evaluator; ValueError for a name that does not exist, with the nearest one."""
    if name not in EVALUATORS:
        known = ", ".join(sorted(EVALUATORS))
        raise ValueError(f"there is no evaluator {name!r}{nearest(name, EVALUATORS) or ';'} there are {known}")
    return EVALUATORS[name]


def check_options(evaluator: str | type[Evaluator], options: Mapping[str, Any]) -> None:
    """ValueError for an evaluator that does not exist, or that has not these options."""
    kind = evaluator_class(evaluator) if isinstance(evaluator, str) else evaluator
    known: set[str] = set()
    if not issubclass(kind, JointEvaluator):  # a table of fixed metrics
        for base in kind.__mro__:
            known |= set(inspect.signature(base).parameters) if "__init__" in vars(base) else set()
    known -= {"ground_truth", "kinds", "category_map", "strict", "options", "args", "kwargs"}
    name = evaluator if isinstance(evaluator, str) else evaluator.name
    for option in options:
        if option not in known:
            raise ValueError(
                f"evaluator {name!r} has no option {option!r}; it has {', '.join(sorted(known)) or 'none'}"
            )


def _annotations(spec: DatasetSpec, records: Records) -> dict[str, Any]:
    """The annotation file, without the images that this split leaves out."""
    content = read_json(spec.annotation_path, "annotation file")
    if missing := [key for key in ("images", "annotations", "categories") if key not in content]:
        raise ValueError(f"annotation file '{spec.annotation_path}' has no {' and no '.join(missing)}")
    if not all(isinstance(content[key], list) for key in ("images", "annotations")):
        return dict(content)  # told where it is read
    images, annotations = content["images"], content["annotations"]
    if len(records) != len(images):
        wanted = {records[index].image_id for index in range(len(records))}
        images = [entry for entry in images if entry["id"] in wanted]
        annotations = [entry for entry in annotations if entry["image_id"] in wanted]
    silent = [isinstance(entry, Mapping) and not (entry.get("height") and entry.get("width")) for entry in images]
    if any(silent):
        records_of = {records[index].image_id: records[index] for index in range(len(records))}
        images = [
            {**entry, **dict(zip(("height", "width"), size_of(records_of[entry["id"]]), strict=True))}
            if unknown and entry.get("id") in records_of
            else entry
            for entry, unknown in zip(images, silent, strict=True)
        ]
    return {**content, "images": images, "annotations": annotations}
