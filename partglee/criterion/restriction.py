"""Restriction loss: a part should lie inside the object that it was parsed from (PartGLEE Eq. 4; spec section 2.3).

M matched part queries; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor

from partglee.criterion.boxes import containment

RESTRICTION_NORMS = ("released", "paper", "mean")


def restriction_loss(parts: Tensor, parents: Tensor) -> Tensor:
    """1 - containment, the share of each part box that its parent box does not cover.

    Gradients reach both boxes. A part box without area, or one that is not a number, counts as contained.

    Args:
        parts: (M, 4) boxes of matched part queries.
        parents: (M, 4) box of the object query that each came from.

    Returns:
        (M,) in [0, 1].
    """
    return 1 - containment(parts, parents)


def restriction_normaliser(norm: str, *, num_images: Tensor, num_matched: Tensor, num_processes: int) -> Tensor:
    """What the sum over matched parts is divided by. Gradients equal those of one process with all images.

    Args:
        norm: `released`: images times matched parts. `paper`: Eq. 4 has no normaliser. `mean`: matched parts, which is
            `released` at one image a batch.
        num_images, num_matched: (A,) or scalar, of all processes together.
        num_processes: gradients are averaged over so many processes.
    """
    if norm == "paper":
        return torch.full_like(num_matched, 1 / num_processes)
    matched = num_matched.clamp(min=1) / num_processes
    return matched * num_images if norm == "released" else matched
