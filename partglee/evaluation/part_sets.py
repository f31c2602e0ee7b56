"""PartImageNet and Pascal-Part: COCO AP over parts with the breakdowns of the papers' tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from partglee.basics.names import name_key
from partglee.evaluation.average_precision import PrecisionTable
from partglee.evaluation.base import Results
from partglee.evaluation.ground_truth import GroundTruth, split_part_name
from partglee.evaluation.instances import CocoEvaluator
from partglee.evaluation.options import check_flag, check_groups, check_names
from partglee.structures import Vocabulary
from partglee.structures.vocabulary_files import builtin_splits


class PartSetEvaluator(CocoEvaluator):
    """COCO AP over the part categories of a file (object categories are not scored), with means over groups.

    Results besides COCO's: AP-<group> and AP50-<group> for each group; with `per_object`, the same for each object;
    with `per_category`, each part. A category without annotations is left out of the means, as in COCO's own mean
    (upstream tools give NaN there).

    Args:
        ground_truth: annotations; a joint file (objects and parts) is reduced to its parts unless `score_objects`.
        groups: {group: object names}, for example base and novel.
        object_names: to split names such as "Quadruped Head"; None = only `a:b` and `a's b` are split.
        per_object: report each object's parts as a group.
        score_objects: score object categories too ("objects and parts" protocols).
    """

    name = "parts"

    def __init__(
        self,
        *,
        ground_truth: Any,
        groups: Mapping[str, Sequence[str]] | None = None,
        object_names: Sequence[str] = (),
        per_object: bool = False,
        score_objects: bool = False,
        **options: Any,
    ) -> None:
        check_groups("groups", groups or {})
        check_names("object_names", object_names)
        check_flag("per_object", per_object)
        check_flag("score_objects", score_objects)
        if not isinstance(ground_truth, GroundTruth):
            ground_truth = GroundTruth.load(ground_truth, object_names=object_names, split=True)
        categories = ground_truth.categories
        pairs = [split_part_name(name, object_names) for name in categories.names]
        self._scored = [k for k in range(len(pairs)) if score_objects or categories.is_part[k]]
        if not self._scored:
            raise ValueError(f"no part category among {list(categories.names[:5])}; name them 'object:part'")
        self._by_object: dict[str, list[int]] = defaultdict(list)
        for k in self._scored:
            pair = pairs[k]
            if pair is not None:
                self._by_object[name_key(pair[0])].append(k)
        self._groups = {
            group: [k for name in names for k in self._by_object.get(name_key(name), ())]
            for group, names in (groups or {}).items()
        }
        empty = [group for group, members in self._groups.items() if not members]
        if empty:
            raise ValueError(f"groups {empty} have no category in the annotations; is it the vocabulary of this file?")
        self.per_object = per_object
        super().__init__(ground_truth=ground_truth, **options)

    def table(self, detections: Any, kind: str) -> PrecisionTable:
        table = super().table(detections, kind)
        hidden = np.setdiff1d(np.arange(len(self.ground_truth.categories.ids)), self._scored)
        for values in (table.precision, *table.recall.values()):
            values[hidden] = np.nan
        return table

    def breakdown(self, table: PrecisionTable, kind: str) -> Results:
        del kind
        groups = dict(self._groups)
        if self.per_object:
            groups.update(self._by_object)
        results: Results = {}
        for group, members in groups.items():
            results[f"AP-{group}"] = table.ap(categories=members)
            results[f"AP50-{group}"] = table.ap(categories=members, iou=0.5)
        if self.per_category:
            values = table.per_category(iou=0.5)
            results.update({f"AP50-{self.ground_truth.categories.names[k]}": float(values[k]) for k in self._scored})
        return results


class PartImageNetEvaluator(PartSetEvaluator):
    """PartImageNet, 40 parts. The papers' "quadruped" columns are AP of single categories: `AP-Quadruped Head`."""

    name = "PartImageNet"

    def __init__(self, *, per_object: bool = True, per_category: bool = True, **options: Any) -> None:
        super().__init__(
            object_names=Vocabulary.builtin("partimagenet_40").object_names,
            per_object=per_object,
            per_category=per_category,
            **options,
        )


class PascalPartEvaluator(PartSetEvaluator):
    """Pascal-Part, 93 parts; base (77) and novel (16: bus and dog) means. The papers' dog columns are AP50 of masks."""

    name = "Pascal-Part"

    def __init__(self, *, per_object: bool = True, per_category: bool = True, **options: Any) -> None:
        options.setdefault("groups", builtin_splits("pascal_part_93"))
        super().__init__(per_object=per_object, per_category=per_category, **options)
