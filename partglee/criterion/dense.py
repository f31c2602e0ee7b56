"""The loss of memory tokens that a dense detector teaches.

B images, T names that the detector knows, C names of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from partglee.criterion.stack import full_precision
from partglee.structures import DenseScores


def on_grids_of(logits: Sequence[Tensor], scores: DenseScores) -> DenseScores:
    """What a detector says, on our grids: its finest grid is that of our finest level, and so on.

    A cell gets the best score of what it covers. Levels beyond the shorter list are left out.

    Args:
        logits: fine to coarse, (B, C, h, w).
    """
    maps = tuple(
        F.adaptive_max_pool2d(theirs.to(ours.device, torch.float32), ours.shape[-2:])
        for ours, theirs in zip(logits, scores.maps, strict=False)
    )
    return scores._replace(maps=maps)


def dense_loss(logits: Sequence[Tensor], scores: DenseScores, *, gamma: float = 2.0) -> Tensor:
    """Quality focal loss (Li et al., arXiv 2006.04388, Eq. 5), summed over places and the names that a detector knows.

    Args:
        logits: fine to coarse, (B, C, h, w).
        scores: of `on_grids_of`.
        gamma: of |score - probability| ** gamma.

    Returns:
        Scalar.
    """
    total = logits[0].new_zeros((), dtype=torch.float32)
    for ours, wanted in zip(logits, scores.maps, strict=False):
        said = full_precision(ours[:, scores.columns])
        apart = (wanted - said.sigmoid()).abs().pow(gamma)
        total = total + (apart * F.binary_cross_entropy_with_logits(said, wanted.to(said), reduction="none")).sum()
    return total


def taught(scores: DenseScores | None) -> Tensor:
    """How much there is to learn: the best score at each place, summed over places and images; scalar."""
    if scores is None or not scores.maps:
        return torch.zeros(())
    return torch.stack([full_precision(one).amax(1).sum() for one in scores.maps]).sum()
