"""The evaluator of a registered data set, for predictions of any origin."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from partglee.basics.files import read_json
from partglee.basics.names import nearest
from partglee.data.records import Records
from partglee.data.spec import DatasetSpec
from partglee.evaluation.category_map import CategoryMap
from partglee.evaluation.instances import InstanceEvaluator
from partglee.evaluation.joint import category_ids_of, evaluator_of_records, kinds_of
from partglee.evaluation.registry import EVALUATORS, build_evaluator

_JOINT = ("hierarchical", "joint")  # as a data set's own evaluator: one table for both levels and their links
_OF_RECORDS = ("federated", "hierarchical", "joint")  # ours: scored against what the reader makes of the file


def dataset_evaluator(
    spec: DatasetSpec,
    records: Records,
    *,
    key: str | None = None,
    by_label: bool = True,
    kinds: Sequence[str] | None = None,
    strict: bool = True,
    **options: Any,
) -> InstanceEvaluator:
    """What scores the detections of a data set.

    Args:
        records: of the spec, read.
        key: evaluator; None = the data set's own, for a set without one both levels and their links (`joint`, or
            `federated` where the images say which names were looked for). These and `hierarchical` are scored against
            the records, every other protocol against the annotation file as it is, reduced to the images of this split.
        by_label: labels of predictions are those of the records' vocabulary; False: categories are found by name.
        kinds: of "bbox" and "segm"; None: masks too when every annotation has one.
        options: keyword arguments of the evaluator.

    Raises:
        ValueError: for an evaluator that does not exist, takes no detections (referring expressions, part maps) or
            is for federated data when these are not, and for an option that it does not have.
    """
    name = (spec.evaluator if key is None else key) or "joint"
    federated = len(records) > 0 and records[0].negative_objects is not None
    if key is None and name in _JOINT:  # plain AP would count names that nobody looked for as wrong
        name = "federated" if federated else "joint"
    check_options(name, options)
    if name == "federated" and not federated:
        raise ValueError(
            f"data set {spec.name!r} is not federated: its images have no 'neg_category_ids' that say which names were "
            "looked for and not found; choose 'joint' or 'coco'"
        )
    if name in _OF_RECORDS:
        if name == "hierarchical":
            options.setdefault("federated", federated)
        known: dict[str, Any] = {"by_label": by_label, "kinds": kinds, "strict": strict}
        kind = EVALUATORS[name]
        assert issubclass(kind, InstanceEvaluator)
        return evaluator_of_records(kind, records, **known, **options)
    if not issubclass(EVALUATORS[name], InstanceEvaluator):
        takers = [n for n, kind in EVALUATORS.items() if issubclass(kind, InstanceEvaluator)]
        raise ValueError(
            f"data set {spec.name!r} is scored by {name!r}, which takes no detections; evaluators of detections are "
            f"{', '.join(takers)}"
        )
    content = _annotations(spec, records)
    if kinds is None:
        kinds = kinds_of([bool(entry.get("segmentation")) for entry in content["annotations"]])
    evaluator = build_evaluator(name, ground_truth=content, kinds=tuple(kinds), strict=strict, **options)
    assert isinstance(evaluator, InstanceEvaluator)
    if by_label:
        objects, parts = category_ids_of(records)
        evaluator.category_map = CategoryMap(
            ground_truth=evaluator.ground_truth, object_category_ids=objects, part_category_ids=parts
        )
    return evaluator


def check_options(name: str, options: dict[str, Any]) -> None:
    """ValueError for an evaluator that does not exist, or that has not these options."""
    if name not in EVALUATORS:
        raise ValueError(
            f"there is no evaluator {name!r}{nearest(name, EVALUATORS)} There are {', '.join(sorted(EVALUATORS))}"
        )
    known: set[str] = set()
    if name not in ("federated", "joint"):  # tables of fixed metrics
        for kind in EVALUATORS[name].__mro__:
            known |= set(inspect.signature(kind).parameters) if "__init__" in vars(kind) else set()
    known -= {"ground_truth", "kinds", "category_map", "strict", "options", "args", "kwargs"}
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
    if tuple(spec.select) == (0.0, 1.0):
        return dict(content)
    wanted = {records[index].image_id for index in range(len(records))}
    return {
        **content,
        "images": [entry for entry in content["images"] if entry["id"] in wanted],
        "annotations": [entry for entry in content["annotations"] if entry["image_id"] in wanted],
    }
