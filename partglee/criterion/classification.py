"""Focal classification (arXiv 1708.02002; spec section 2.2).

A prediction sets, B images, Q queries, C names, R regions of one image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from partglee.criterion.boxes import containment

INSIDE = 0.5  # share of a query's box that must lie in a labelled region for the region to say something about it


def focal_loss(
    logits: Tensor, positive: Tensor, weight: Tensor | None = None, *, alpha: float = 0.25, gamma: float = 2.0
) -> Tensor:
    """Sigmoid focal loss, summed over queries and names.

    Args:
        logits: (A, B, Q, C).
        positive: (A, B, Q, C) bool, pairs of a query and a name that belong together.
        weight: (A, B, Q, C) bool, pairs that are supervised at all; None = all.

    Returns:
        (A,) sums.
    """
    # A prediction that nobody supervises must not reach the sum, be it infinite.
    if weight is not None:
        logits = torch.where(weight, logits, 0.0)
    loss: Tensor = sigmoid_focal_loss(logits, positive.to(logits.dtype), alpha=alpha, gamma=gamma, reduction="none")
    if weight is not None:
        loss = loss * weight
    return loss.flatten(1).sum(1)


def labelled_queries(
    boxes: Tensor, background: Sequence[bool] | None, labelled: Sequence[Tensor | None] | None
) -> Tensor | None:
    """Which queries look at a place that was annotated, so that being unmatched means being wrong.

    Args:
        boxes: (A, B, Q, 4) cxcywh in [0, 1].
        background: B bools, what is not annotated is nothing; None = in all images.
        labelled: B times (R, 4) cxcywh, the regions that were looked at; None = the whole image.

    Returns:
        (A, B, Q) bool; None when all do.
    """
    if (background is None or all(background)) and (labelled is None or all(r is None for r in labelled)):
        return None
    places = torch.ones(boxes.shape[:-1], dtype=torch.bool, device=boxes.device)
    for image, regions in enumerate(labelled or ()):
        if regions is not None:
            inside = containment(boxes.detach()[:, image, :, None], regions.to(boxes)) >= INSIDE
            places[:, image] = inside.any(-1)
    for image, known in enumerate(background or ()):
        if not known:
            places[:, image] = False
    return places


def supervised_pairs(
    positive: Tensor, matched: Tensor, negatives: Tensor | None, background: Tensor | None
) -> Tensor | None:
    """Which pairs of query and name carry a loss.

    Args:
        positive: (A, B, Q, C) bool.
        matched: (A, B, Q) bool.
        negatives: (B, C) bool, names whose absence is meaningful; None = all.
        background: (A, B, Q) bool, queries that are negatives when they are unmatched; None = all.

    Returns:
        (A, B, Q, C) bool; None when all pairs do.
    """
    if negatives is None and background is None:
        return None
    queries = torch.ones_like(matched) if background is None else matched | background
    pairs = queries.unsqueeze(-1)
    if negatives is not None:
        pairs = pairs & negatives[:, None].to(positive.device)
    return pairs | positive
