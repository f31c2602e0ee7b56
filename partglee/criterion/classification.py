"""Focal classification (arXiv 1708.02002; spec section 2.2).

A prediction sets, B images, Q queries, C names, M matched pairs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss


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


def supervised_pairs(
    positive: Tensor, matched: Tensor, negatives: Tensor | None, background: Sequence[bool] | None
) -> Tensor | None:
    """Which pairs of query and name carry a loss.

    Args:
        positive: (A, B, Q, C) bool.
        matched: (A, B, Q) bool.
        negatives: (B, C) bool, names whose absence is meaningful; None = all.
        background: B bools, unmatched queries are negatives too; None = all are.

    Returns:
        (A, B, Q, C) bool; None when all pairs do.
    """
    everywhere = background is None or all(background)
    if negatives is None and everywhere:
        return None
    queries = torch.ones_like(matched)
    if background is not None and not everywhere:
        queries = matched | torch.tensor(background).to(matched.device)[:, None]
    pairs = queries.unsqueeze(-1)
    if negatives is not None:
        pairs = pairs & negatives[:, None].to(positive.device)
    return pairs | positive
