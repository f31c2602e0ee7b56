"""Mask losses at random points, a few masks at a time.

Nothing of the size of all points outlives its few masks: what the backward pass needs are two gradients of the maps,
which are taken while the points are there. With 12,544 points and 300 matched masks that is a sixth of the memory.

M matched masks, E width, h x w the stride-4 map, P points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from partglee.criterion.losses import dice_loss, mask_bce_loss
from partglee.ops.masks import mask_logits
from partglee.ops.points import sample_masks, sample_points, uncertain_points

_POINTS_AT_ONCE_CPU = 2**20  # so many are drawn at the same time: they stay in a processor's caches
_POINTS_AT_ONCE = 2**24


@dataclass(frozen=True, kw_only=True)
class PointSampling:
    """How points are drawn; see `uncertain_points`."""

    num_points: int = 12544
    oversample: float = 3.0
    importance: float = 0.75
    near: float = 0.0


@dataclass(frozen=True, kw_only=True)
class MatchedMasks:
    """Matched queries of one image and the masks that they should predict."""

    embeds: Tensor  # (M_b, E) of the queries
    features: Tensor  # (E, h, w)
    masks: Tensor  # (N_b, H, W) bool of the targets
    rows: Tensor  # (M_b,) long, the mask of each query
    boxes: Tensor  # (M_b, 4) cxcywh in [0, 1] of these masks


def sampled_mask_losses(images: Sequence[MatchedMasks], sampling: PointSampling) -> tuple[Tensor, Tensor]:
    """Cross entropy and dice of matched masks at random points, more of them where the prediction is undecided
    (PointRend, arXiv 1912.08193).

    Only the masks of matched queries are ever computed.

    Returns:
        Two times (M,), the images one after the other.
    """
    found = [_PointLosses.apply(mask_logits(i.embeds, i.features), i.masks, i.rows, i.boxes, sampling) for i in images]
    bce, dice = (torch.cat(terms) for terms in zip(*found, strict=True))
    return bce, dice


class _PointLosses(torch.autograd.Function):
    """(M, h, w) logits, (N, H, W) masks, (M,) rows and (M, 4) boxes -> two times (M,)."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, masks: Tensor, rows: Tensor, boxes: Tensor, sampling: PointSampling
    ) -> tuple[Tensor, Tensor]:
        budget = _POINTS_AT_ONCE_CPU if logits.device.type == "cpu" else _POINTS_AT_ONCE
        some = max(1, budget // int(sampling.num_points * sampling.oversample))
        losses = logits.new_empty(2, len(logits))
        gradients = logits.new_empty(2, *logits.shape) if ctx.needs_input_grad[0] else None
        for start in range(0, len(logits), some):
            few = slice(start, start + some)
            points = uncertain_points(
                logits[few],
                num_points=sampling.num_points,
                oversample=sampling.oversample,
                importance=sampling.importance,
                boxes=boxes[few],
                near=sampling.near,
            )
            wanted = sample_masks(masks, points, rows=rows[few], dtype=logits.dtype)
            seen = sample_points(logits[few].unsqueeze(1), points).squeeze(1)
            with torch.enable_grad():
                leaf = seen.requires_grad_(gradients is not None)
                terms = mask_bce_loss(leaf, wanted), dice_loss(leaf, wanted)
                sums = [term.sum() for term in terms]
            losses[:, few] = torch.stack([term.detach() for term in terms])
            if gradients is not None:
                own = torch.stack([torch.autograd.grad(each, leaf)[0] for each in sums], dim=1)
                gradients[:, few] = _spread(own, logits[few], points).transpose(0, 1)
        ctx.save_for_backward(*(() if gradients is None else (gradients,)))
        return losses[0], losses[1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_bce: Tensor, of_dice: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradients,) = ctx.saved_tensors
        gradient = of_bce[:, None, None] * gradients[0] + of_dice[:, None, None] * gradients[1]
        return gradient, None, None, None, None


def _spread(gradients: Tensor, logits: Tensor, points: Tensor) -> Tensor:
    """(n, C, P) gradients at (n, P, 2) points of (n, h, w) maps -> (n, C, h, w): what `sample_points` hands back."""
    channels = gradients.shape[1]
    grid = (2 * points.unsqueeze(2) - 1).to(logits.dtype)
    maps = logits.unsqueeze(1).expand(-1, channels, -1, -1)  # only their sizes count
    bilinear, zeros, align_corners = 0, 0, False
    spread: Tensor = torch.ops.aten.grid_sampler_2d_backward(
        gradients.unsqueeze(-1).contiguous(), maps, grid, bilinear, zeros, align_corners, [True, False]
    )[0]
    return spread
