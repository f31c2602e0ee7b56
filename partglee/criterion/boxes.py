"""Box losses of matched pairs (spec section 2.2).

M pairs; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

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


def to_xyxy(boxes: Tensor) -> Tensor:
    """(..., 4) cxcywh -> xyxy."""
    converted: Tensor = box_convert(boxes, in_fmt="cxcywh", out_fmt="xyxy")
    return converted
