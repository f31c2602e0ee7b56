"""Box losses of matched pairs (spec section 2.2).

M pairs; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_convert, generalized_box_iou_loss


def l1_loss(boxes: Tensor, targets: Tensor) -> Tensor:
    """Sum of absolute differences: two times (..., 4) -> (...)."""
    return (boxes - targets).abs().sum(-1)


def giou_loss(boxes: Tensor, targets: Tensor) -> Tensor:
    """1 - GIoU (arXiv 1902.09630): two times (..., 4) -> (...), in [0, 2]."""
    # torchvision's default eps is as large as the area of a box of 0.03 % of both sides.
    loss: Tensor = generalized_box_iou_loss(to_xyxy(boxes), to_xyxy(targets), reduction="none", eps=1e-10)
    return loss


def containment(inner: Tensor, outer: Tensor) -> Tensor:
    """Share of `inner`'s area that `outer` covers: two times (..., 4), broadcast -> (...), in [0, 1].

    Boxes are clamped to [0, 1]. An inner box without area, or one that is not a number, counts as contained.
    """
    part, parent = to_xyxy(inner.clamp(0, 1)), to_xyxy(outer.clamp(0, 1))
    low = torch.maximum(part[..., :2], parent[..., :2])
    high = torch.minimum(part[..., 2:], parent[..., 2:])
    overlap = _area((high - low).clamp(min=0))
    area = _area(part[..., 2:] - part[..., :2])
    usable = (area > 0) & overlap.isfinite()
    # Both branches of `where` are differentiated, so the division itself must be safe.
    covered = torch.where(usable, overlap, 1.0) / torch.where(usable, area, 1.0)
    return torch.where(usable, covered, 1.0)


def to_xyxy(boxes: Tensor) -> Tensor:
    """(..., 4) cxcywh -> xyxy."""
    converted: Tensor = box_convert(boxes, in_fmt="cxcywh", out_fmt="xyxy")
    return converted


def _area(sides: Tensor) -> Tensor:
    return sides[..., 0] * sides[..., 1]
