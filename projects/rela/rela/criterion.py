"""Losses of ReLA (GRES, arXiv 2306.00968, section 4.1): cross-entropy of masks, minimap and no-target answer.

E expressions, R = P x P regions, H x W the canvas, h x w the stride-4 map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from partglee.layers import at_least_float32
from rela.region_decoder import RegionOutput

MINIMAP_RULES = ("area", "centre")
TERMS = ("mask", "minimap", "no_target", "dice")


class ReLACriterion(nn.Module):
    """Loss terms, weighted: of the last layer alone, as released.

    Args:
        num_regions: P.
        class_weight: of background and target; every cross-entropy is the weighted mean over its elements.
        minimap_rule: see `minimap_target`.
        factor: of all terms.
        weights: of `mask`, `minimap`, `no_target`, `dice`; a term of weight 0 is not computed.
    """

    class_weight: Tensor

    def __init__(
        self,
        *,
        num_regions: int,
        weights: Mapping[str, float],
        class_weight: Sequence[float] = (0.9, 1.1),
        minimap_rule: str = "area",
        factor: float = 5.0,
    ) -> None:
        super().__init__()
        if unknown := sorted(set(weights) - set(TERMS)):
            raise ValueError(f"there is no loss {unknown[0]!r}; losses are {', '.join(TERMS)}")
        if minimap_rule not in MINIMAP_RULES:
            raise ValueError(f"minimap_rule must be one of {', '.join(MINIMAP_RULES)}, got {minimap_rule!r}")
        self.num_regions = num_regions
        self.minimap_rule = minimap_rule
        self.weights = {name: factor * weight for name, weight in weights.items() if weight}
        self.register_buffer("class_weight", torch.tensor(class_weight, dtype=torch.float32), persistent=False)

    def forward(self, output: RegionOutput, masks: Tensor, no_target: Tensor) -> dict[str, Tensor]:
        """Terms by name.

        Args:
            masks: (E, H, W) bool, all that an expression means; empty where it means nothing.
            no_target: (E,) bool.

        Raises:
            ValueError: for targets of other numbers or a mask where there is no target.
        """
        if len(masks) != len(output.no_target) or no_target.shape != (len(masks),):
            raise ValueError(
                f"expected masks (E, H, W) and no_target (E,) for E = {len(output.no_target)} expressions, "
                f"got {tuple(masks.shape)} and {tuple(no_target.shape)}"
            )
        terms: dict[str, Tensor] = {}
        if "mask" in self.weights or "dice" in self.weights:
            logits = F.interpolate(
                at_least_float32(output.masks), size=masks.shape[-2:], mode="bilinear", align_corners=False
            )
            if "mask" in self.weights:
                terms["mask"] = self._cross_entropy(logits, masks)
            if "dice" in self.weights:
                terms["dice"] = dice_loss(logits[:, 1] - logits[:, 0], masks, ~no_target)
        if "minimap" in self.weights:
            cells = minimap_target(masks, self.num_regions, rule=self.minimap_rule)
            terms["minimap"] = self._cross_entropy(output.minimap.transpose(1, 2), cells.flatten(1))
        if "no_target" in self.weights:
            terms["no_target"] = self._cross_entropy(output.no_target, no_target)
        return {name: self.weights[name] * value for name, value in terms.items()}

    def _cross_entropy(self, logits: Tensor, target: Tensor) -> Tensor:
        """(E, 2, ...) logits and (E, ...) bool -> (), the weighted mean."""
        return F.cross_entropy(logits, target.long(), weight=self.class_weight.to(logits.dtype))


def minimap_target(masks: Tensor, num_regions: int, *, rule: str = "area") -> Tensor:
    """(E, H, W) bool masks -> (E, P, P) bool: which cells of the image belong to the target.

    Args:
        rule: "area": more than half of a cell's pixels. "centre": bilinear resize without smoothing, cut to whole
            numbers, as released: of a cell with even sides the four central pixels alone decide, and all must be set.
    """
    values = masks[:, None].float()
    if rule == "area":
        return F.adaptive_avg_pool2d(values, num_regions)[:, 0] > 0.5
    size = (num_regions, num_regions)
    return F.interpolate(values, size=size, mode="bilinear", align_corners=False)[:, 0] >= 1


def dice_loss(logits: Tensor, masks: Tensor, counted: Tensor) -> Tensor:
    """1 - (2 |p g| + 1) / (|p| + |g| + 1), the mean over the expressions that are counted; 0 where there is none.

    Args:
        logits: (E, H, W) of the target.
        masks: (E, H, W) bool.
        counted: (E,) bool; an empty mask has no overlap to speak of.
    """
    probability, truth = logits.sigmoid().flatten(1), masks.flatten(1).to(logits.dtype)
    overlap = (probability * truth).sum(1)
    dice = 1 - (2 * overlap + 1) / (probability.sum(1) + truth.sum(1) + 1)
    weight = counted.to(dice.dtype)
    return (dice * weight).sum() / weight.sum().clamp(min=1)
