"""Mask losses on sampled points (arXiv 1912.08193; spec section 2.2).

B images, M matched pairs (M_b in image b), N_b masks of image b, E width, h x w the stride-4 map, P points.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from partglee.ops.masks import mask_logits
from partglee.ops.points import sample_masks, sample_points, uncertain_points


def mask_bce_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross entropy, mean over points: two times (M, P) -> (M,)."""
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(-1)


def dice_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """1 - (2 * overlap + 1) / (area + area + 1): two times (M, P) -> (M,)."""
    scores = logits.sigmoid()
    overlap = (scores * targets).sum(-1)
    return 1 - (2 * overlap + 1) / (scores.sum(-1) + targets.sum(-1) + 1)


def sampled_mask_logits(
    embeds: Sequence[Tensor],
    features: Sequence[Tensor],
    masks: Sequence[Tensor],
    rows: Sequence[Tensor],
    *,
    num_points: int,
    oversample: float,
    importance: float,
) -> tuple[Tensor, Tensor]:
    """Logits of matched masks and their targets at random points, more of them where the prediction is undecided.

    Only the masks of matched queries are ever computed.

    Args:
        embeds: for each image (M_b, E), the mask embeddings of its matched queries.
        features: for each image (E, h, w).
        masks: for each image (N_b, H, W) bool.
        rows: for each image (M_b,) long, the mask that each matched query should predict.

    Returns:
        Two times (M, P), the images one after the other.
    """
    logits = torch.cat([mask_logits(e, f) for e, f in zip(embeds, features, strict=True)])
    points = uncertain_points(logits, num_points=num_points, oversample=oversample, importance=importance)
    at_points = sample_points(logits.unsqueeze(1), points).squeeze(1)
    with torch.no_grad():
        pieces = zip(masks, torch.split(points, [len(r) for r in rows]), rows, strict=True)
        wanted = [sample_masks(m, p, rows=r, dtype=logits.dtype) for m, p, r in pieces]
    return at_points, torch.cat(wanted)
