"""Losses of one level: everything that compares predictions with their matched targets (PartGLEE Eq. 5).

A prediction sets, B images, Q queries, C names, M matched pairs or denoising queries, N targets of all images.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from partglee.criterion.losses import (
    focal_loss,
    giou_loss,
    l1_loss,
    labelled_queries,
    supervised_pairs,
)
from partglee.criterion.matcher import Matches
from partglee.criterion.point_losses import MatchedMasks, PointSampling, sampled_mask_losses
from partglee.criterion.stack import PredictionStack, TargetBatch, full_precision, sum_per_layer
from partglee.structures import LevelSupervision

EVERYTHING = LevelSupervision()  # is annotated
CLASS, L1, GIOU, MASK, DICE = "class", "box_l1", "box_giou", "mask_bce", "mask_dice"


class SetCriterion:
    """Computes the unweighted losses of one level, one value for each prediction set.

    Args:
        focal_alpha, focal_gamma: of the classification loss.
        num_points, oversample, importance, near: random points of the mask losses; see `uncertain_points`.
    """

    def __init__(
        self,
        *,
        focal_alpha: float = 0.25,
        focal_gamma: float = 2.0,
        num_points: int = 12544,
        oversample: float = 3.0,
        importance: float = 0.75,
        near: float = 0.0,
    ) -> None:
        self.focal_alpha = focal_alpha
        self.focal_gamma = focal_gamma
        self.sampling = PointSampling(num_points=num_points, oversample=oversample, importance=importance, near=near)

    def losses(
        self,
        predictions: PredictionStack,
        targets: TargetBatch,
        matches: Matches,
        *,
        normaliser: Tensor,
        mask_features: Tensor | None = None,
        supervision: LevelSupervision = EVERYTHING,
    ) -> dict[str, Tensor]:
        """Losses of matched queries, and the classification of the others.

        Args:
            normaliser: scalar, number of targets.
            mask_features: (B, E, h, w); None = no mask losses.
            supervision: what the annotations leave open.

        Returns:
            Term -> (A,). Terms that nothing in the batch supervises are left out.
        """
        num_layers = len(predictions.logits)
        rows = targets.offsets[matches.image] + matches.target
        where = (matches.layer, matches.image, matches.query)

        positive = torch.zeros_like(predictions.logits, dtype=torch.bool)
        positive[(*where, targets.labels[rows])] = True
        matched = torch.zeros_like(predictions.logits[..., :1], dtype=torch.bool).squeeze(-1)
        matched[where] = True
        places = labelled_queries(predictions.boxes, supervision.background, supervision.labelled)
        weight = supervised_pairs(positive, matched, supervision.negatives, places)
        losses = {CLASS: self._focal(predictions.logits, positive, weight)}
        if len(targets) == 0:
            return {term: loss / normaliser for term, loss in losses.items()}

        boxes, wanted = predictions.boxes[where], targets.boxes[rows]
        losses[L1] = sum_per_layer(l1_loss(boxes, wanted), matches.layer, num_layers)
        losses[GIOU] = sum_per_layer(giou_loss(boxes, wanted), matches.layer, num_layers)
        if mask_features is not None and predictions.mask_embed is not None:
            losses.update(self._mask_losses(predictions.mask_embed, targets, matches, mask_features))
        return {term: loss / normaliser for term, loss in losses.items()}

    def denoising_losses(
        self,
        predictions: PredictionStack,
        source: Tensor,
        targets: TargetBatch,
        *,
        normaliser: Tensor,
        supervision: LevelSupervision = EVERYTHING,
    ) -> dict[str, Tensor]:
        """Class and box losses of denoising queries, which know their target.

        A negative should be predicted as nothing, as an unmatched query should: not where the background is unlabelled,
        for an instance that nobody annotated may be what it sees. Where only some regions are labelled it is told so
        wherever its prediction ends up: its box began around a point of its target, so at a place that was looked at.

        Args:
            predictions: of the M denoising queries.
            source: (B, M) long, target row in the image; -1 = padding, no loss; -2 = negative.
            normaliser: scalar, number of copies of targets.
            supervision: what the annotations leave open.
        """
        copies = source >= 0
        rows = (targets.offsets[:, None] + source.clamp(min=0)).clamp(max=len(targets) - 1)
        positive = torch.zeros_like(predictions.logits[0], dtype=torch.bool)
        positive.scatter_(-1, targets.labels[rows].unsqueeze(-1), copies.unsqueeze(-1))
        punished = source != -1
        for image, known in enumerate(supervision.background or ()):
            if not known:
                punished[image] = copies[image]
        weight = punished.unsqueeze(-1)
        if supervision.negatives is not None:
            weight = weight & supervision.negatives[:, None].to(weight.device)
        weight = (weight | positive).expand_as(predictions.logits)

        wanted = targets.boxes[rows]
        losses = {CLASS: self._focal(predictions.logits, positive.expand_as(predictions.logits), weight)}
        box_terms: dict[str, Callable[[Tensor, Tensor], Tensor]] = {L1: l1_loss, GIOU: giou_loss}
        for term, function in box_terms.items():
            values = function(predictions.boxes, wanted.expand_as(predictions.boxes))
            losses[term] = torch.where(copies, values, 0.0).flatten(1).sum(1)
        return {term: loss / normaliser for term, loss in losses.items()}

    def _focal(self, logits: Tensor, positive: Tensor, weight: Tensor | None) -> Tensor:
        return focal_loss(logits, positive, weight, alpha=self.focal_alpha, gamma=self.focal_gamma)

    def _mask_losses(
        self, mask_embed: Tensor, targets: TargetBatch, matches: Matches, mask_features: Tensor
    ) -> dict[str, Tensor]:
        """Images without masks have no part in it, nor have instances that have a box alone."""
        images, layers = [], []
        bounds = [0, *itertools.accumulate(matches.counts)]
        for i, target in enumerate(targets.masks):
            if target is None or len(target) == 0:
                continue
            pairs = slice(bounds[i], bounds[i + 1])
            layer, query, row = matches.layer[pairs], matches.query[pairs], matches.target[pairs]
            if (with_mask := targets.with_mask[i]) is not None:
                kept = with_mask[row]
                layer, query, row = layer[kept], query[kept], row[kept]
            matched = MatchedMasks(
                embeds=mask_embed[layer, i, query],
                features=full_precision(mask_features[i]),
                masks=target,
                rows=row,
                boxes=targets.boxes[targets.offsets[i] + row],
            )
            images.append(matched)
            layers.append(layer)
        if not images:
            return {}
        bce, dice = sampled_mask_losses(images, self.sampling)
        layer, num_layers = torch.cat(layers), len(mask_embed)
        return {
            MASK: sum_per_layer(bce, layer, num_layers),
            DICE: sum_per_layer(dice, layer, num_layers),
        }
