"""Evaluation: one class for each protocol over one small base. See docs/evaluation.md."""

from partglee.evaluation.base import Evaluator, format_table
from partglee.evaluation.category_map import CategoryMap
from partglee.evaluation.ground_truth import GroundTruth
from partglee.evaluation.hierarchical import HierarchicalEvaluator
from partglee.evaluation.instances import CocoEvaluator, LvisEvaluator
from partglee.evaluation.issues import PredictionError
from partglee.evaluation.paco import PacoEvaluator
from partglee.evaluation.part_sets import PartImageNetEvaluator, PartSetEvaluator, PascalPartEvaluator

__all__ = [
    "CategoryMap",
    "CocoEvaluator",
    "Evaluator",
    "GroundTruth",
    "HierarchicalEvaluator",
    "LvisEvaluator",
    "PacoEvaluator",
    "PartImageNetEvaluator",
    "PartSetEvaluator",
    "PascalPartEvaluator",
    "PredictionError",
    "format_table",
]
