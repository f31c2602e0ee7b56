"""Losses of MGLMM: cross-entropy of the answers' tokens, cross-entropy and dice of the masks. N masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

WEIGHTS = {"ce": 1.0, "bce": 2.0, "dice": 0.5}
"""As published; `choice` is of a mask decoder that has a loss of its own, at 1."""


def token_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """(A, V) logits and (A,) ids -> mean cross-entropy, 0 for none."""
    if not len(wanted):
        return logits.sum() * 0
    return F.cross_entropy(logits.float(), wanted)


def mask_losses(logits: Sequence[Tensor], masks: Sequence[Tensor]) -> dict[str, Tensor]:
    """`bce` and `dice`, sums over the masks by their number.

    Args:
        logits, masks: N of each, (h, w); masks are bool or in [0, 1], and may differ in size between them.
    """
    entries = [
        (one.float().flatten(), mask.to(torch.float32).flatten()) for one, mask in zip(logits, masks, strict=True)
    ]
    bce = [F.binary_cross_entropy_with_logits(one, mask) for one, mask in entries]
    dice = [dice_loss(one, mask) for one, mask in entries]
    return {"bce": torch.stack(bce).mean(), "dice": torch.stack(dice).mean()}


def dice_loss(logits: Tensor, mask: Tensor, *, scale: float = 1000.0, eps: float = 1e-6) -> Tensor:
    """1 - (2 p.g / s + e) / (p / s + g / s + e) of one mask (P,), as LISA and its successors write it: with sums by
    1000, an empty mask costs next to nothing only when next to nothing is said."""
    share = logits.sigmoid()
    both = 2 * (share / scale * mask).sum()
    total = (share / scale).sum() + (mask / scale).sum()
    return 1 - (both + eps) / (total + eps)


def weighted(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> dict[str, Tensor]:
    """Each term by its weight, 1 where none is given; those of weight 0 are left out."""
    return {name: value * weights.get(name, 1.0) for name, value in terms.items() if weights.get(name, 1.0)}
