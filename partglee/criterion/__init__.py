"""The training objective: matching, losses, and their sum over objects, parts and layers."""

from partglee.criterion.build import build_criterion
from partglee.criterion.hierarchical import HierarchicalCriterion, LossWeights, sum_terms, summarise, total
from partglee.criterion.matcher import Matcher, Matches
from partglee.criterion.set_criterion import SetCriterion

__all__ = [
    "HierarchicalCriterion",
    "LossWeights",
    "Matcher",
    "Matches",
    "SetCriterion",
    "build_criterion",
    "sum_terms",
    "summarise",
    "total",
]
