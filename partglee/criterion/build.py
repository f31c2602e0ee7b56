"""The criterion from a configuration."""

from __future__ import annotations

from fvcore.common.config import CfgNode as CN

from partglee.criterion.hierarchical import HierarchicalCriterion, LossWeights
from partglee.criterion.matcher import Matcher
from partglee.criterion.set_criterion import SetCriterion


def build_criterion(cfg: CN) -> HierarchicalCriterion:
    """Read the `CRITERION` section."""
    c = cfg.CRITERION
    return HierarchicalCriterion(
        matcher=Matcher(
            class_weight=c.COST.CLASS,
            l1_weight=c.COST.L1,
            giou_weight=c.COST.GIOU,
            mask_weight=c.COST.MASK,
            dice_weight=c.COST.DICE,
            num_points=c.NUM_POINTS,
            near=c.POINTS_NEAR,
            focal_alpha=c.FOCAL_ALPHA,
            focal_gamma=c.FOCAL_GAMMA,
        ),
        level=SetCriterion(
            focal_alpha=c.FOCAL_ALPHA,
            focal_gamma=c.FOCAL_GAMMA,
            num_points=c.NUM_POINTS,
            oversample=c.OVERSAMPLE,
            importance=c.IMPORTANCE,
            near=c.POINTS_NEAR,
        ),
        weights=LossWeights(
            class_=c.WEIGHT.CLASS,
            box_l1=c.WEIGHT.L1,
            box_giou=c.WEIGHT.GIOU,
            mask_bce=c.WEIGHT.MASK,
            mask_dice=c.WEIGHT.DICE,
            restriction=c.WEIGHT.RESTRICTION,
            distillation=c.WEIGHT.DISTILLATION,
            dense=c.WEIGHT.DENSE,
        ),
        part_matching=c.PART_MATCHING,
        restriction_norm=c.RESTRICTION_NORM,
    )
