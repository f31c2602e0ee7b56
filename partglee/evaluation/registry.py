"""Evaluators by the name that a data set's spec gives (`DatasetSpec.evaluator`)."""

from __future__ import annotations

from typing import Any

from partglee.evaluation.base import Evaluator
from partglee.evaluation.hierarchical import HierarchicalEvaluator
from partglee.evaluation.instances import CocoEvaluator, LvisEvaluator
from partglee.evaluation.joint import FederatedEvaluator, JointEvaluator
from partglee.evaluation.paco import PacoEvaluator
from partglee.evaluation.part_sets import PartImageNetEvaluator, PartSetEvaluator, PascalPartEvaluator
from partglee.evaluation.referring import GroundingBoxEvaluator, ReferringEvaluator
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
    "refcoco_boxes": GroundingBoxEvaluator,
    "referring": ReferringEvaluator,
    "semantic_parts": SemanticPartEvaluator,
}


def build_evaluator(name: str, **options: Any) -> Evaluator:
    """An evaluator by name.

    Args:
        options: keyword arguments of its class, for example `ground_truth`.

    Raises:
        ValueError: for a name that does not exist.
    """
    if name not in EVALUATORS:
        raise ValueError(f"there is no evaluator {name!r}; there are {', '.join(sorted(EVALUATORS))}")
    return EVALUATORS[name](**options)
