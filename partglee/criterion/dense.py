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


def dense_loss(logits: Sequence[Tensor], scores: DenseScores, *, gamma: float = 2.0) -> Tensor:
    """Quality focal loss (Li et al., arXiv 2006.04388, Eq. 5), summed over places and the names that a detector knows.

    Its finest grid teaches our finest level, and so on; levels beyond the shorter list are not taught. A grid of
    another size is brought to ours by the best score of what a cell covers.

    Args:
        logits: fine to coarse, (B, C, h, w).
        scores: of the detector.
        gamma: of |score - probability| ** gamma.

    Returns:
        Scalar.
    """
    total = logits[0].new_zeros((), dtype=torch.float32)
    for ours, theirs in zip(logits, scores.maps, strict=False):
        wanted = F.adaptive_max_pool2d(theirs.to(ours.device, torch.float32), ours.shape[-2:])
        said = full_precision(ours[:, scores.columns])
        apart = (wanted - said.sigmoid()).abs().pow(gamma)
        total = total + (apart * F.binary_cross_entropy_with_logits(said, wanted, reduction="none")).sum()
    return total


def taught(scores: DenseScores | None) -> Tensor:
    """How much there is to learn: the best score at each place, summed over places and images; scalar."""
    if scores is None:
        return torch.zeros(())
    return torch.stack([full_precision(one).amax(1).sum() for one in scores.maps]).sum()
