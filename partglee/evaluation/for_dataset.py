"""The evaluator of a registered data set, for predictions of any origin."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from partglee.data.catalog import DatasetSpec
from partglee.data.files import read_json
from partglee.data.records import Records
from partglee.evaluation.category_map import CategoryMap
from partglee.evaluation.instances import InstanceEvaluator
from partglee.evaluation.joint import category_ids_of, joint_evaluator, kinds_of
from partglee.evaluation.registry import EVALUATORS, build_evaluator
from partglee.structures.vocabulary_files import nearest

_JOINT = ("", "hierarchical", "joint")  # as a data set's own evaluator: one table for both levels and their links


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
        key: evaluator; None = the data set's own. Both levels and their links (`joint`) are scored against the records,
            every other protocol against the annotation file as it is, reduced to the images of this split.
        by_label: labels of predictions are those of the records' vocabulary; False: categories are found by name.
        kinds: of "bbox" and "segm"; None: masks too when every annotation has one.
        options: keyword arguments of the evaluator.

    Raises:
        ValueError: for an evaluator that does not exist or takes no detections (referring expressions, part maps), and
            for an option that it does not have.
    """
    name = spec.evaluator if key is None else key
    joint = name in (_JOINT if key is None else ("", "joint"))
    check_options("joint" if joint else name, options)
    if joint and key is None and len(records) and records[0].negative_objects is not None:
        raise ValueError(
            f"data set {spec.name!r} is federated: plain AP would count names that nobody looked for as wrong; "
            "choose an evaluator, such as 'lvis'"
        )
    if joint:
        return joint_evaluator(records, by_label=by_label, kinds=kinds, strict=strict)
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
    if name != "joint":  # it is made of records, with no choice
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
