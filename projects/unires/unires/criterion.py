"""Losses of UniRES: binary cross-entropy and dice of one mask for each expression.

The paper names none and follows CRIS (arXiv 2111.15174), whose loss is the cross-entropy alone, on a map at a quarter
of the image. E expressions, H x W the canvas, h x w the map of logits, P points.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from partglee.criterion.losses import dice_loss, mask_bce_loss
from partglee.layers import at_least_float32
from partglee.ops.points import sample_masks, sample_points, uncertain_points

TERMS = ("bce", "dice")


class UniRESCriterion(nn.Module):
    """Loss terms, weighted: means over the expressions of a batch.

    Args:
        weights: of `bce` and `dice`; a term of weight 0 is not computed.
        num_points: P, where masks are compared, more of them where the prediction is undecided; 0 = at every place of
            the map, against the share of each place's pixels that belong to the target.
        oversample, importance: as of `uncertain_points`.
    """

    def __init__(
        self, *, weights: Mapping[str, float], num_points: int = 0, oversample: float = 3.0, importance: float = 0.75
    ) -> None:
        super().__init__()
        if unknown := sorted(set(weights) - set(TERMS)):
            raise ValueError(f"there is no loss {unknown[0]!r}; losses are {', '.join(TERMS)}")
        if num_points < 0:
            raise ValueError(f"num_points must be at least 0, got {num_points}")
        self.weights = {name: weight for name, weight in weights.items() if weight}
        self.num_points = num_points
        self.oversample = oversample
        self.importance = importance

    def forward(self, logits: Tensor, masks: Tensor, no_target: Tensor) -> dict[str, Tensor]:
        """Terms by name.

        Args:
            logits: (E, h, w).
            masks: (E, H, W) bool, all that an expression means; empty where it means nothing.
            no_target: (E,) bool; such expressions have no overlap to speak of and are left out of the dice loss.

        Raises:
            ValueError: for targets of other numbers.
        """
        if len(masks) != len(logits) or no_target.shape != (len(masks),):
            raise ValueError(
                f"expected masks (E, H, W) and no_target (E,) for E = {len(logits)} expressions, "
                f"got {tuple(masks.shape)} and {tuple(no_target.shape)}"
            )
        wide = at_least_float32(logits)
        if self.num_points:
            points = uncertain_points(
                wide, num_points=self.num_points, oversample=self.oversample, importance=self.importance
            )
            said = sample_points(wide[:, None], points)[:, 0]
            truth = sample_masks(masks, points, dtype=wide.dtype)
        else:
            said = wide.flatten(1)
            h, w = logits.shape[-2:]
            truth = F.adaptive_avg_pool2d(masks[:, None].to(wide.dtype), (h, w)).flatten(1)
        terms: dict[str, Tensor] = {}
        if "bce" in self.weights:
            terms["bce"] = mask_bce_loss(said, truth).mean()
        if "dice" in self.weights:
            meant = (~no_target).to(wide.dtype)
            terms["dice"] = (dice_loss(said, truth) * meant).sum() / meant.sum().clamp(min=1)
        return {name: self.weights[name] * value for name, value in terms.items()}
