"""Which of several rows that lie on one another stay: greedy non-maximum suppression, by masks where there are some.

N rows, best first, G groups that do not see each other, P pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def best_of_overlapping(
    boxes: Tensor,
    group: Tensor,
    masks: Callable[[Tensor], Tensor | None],
    *,
    overlap: float | None = None,
    inside: float | None = None,
) -> Tensor:
    """Rows that stay when every row that lies on a better one of its group goes.

    Args:
        boxes: (N, 4) xyxy of rows, best first.
        group: (N,) long; rows of different groups are not compared.
        masks: (n,) row numbers -> their masks (n, P) bool, or None, then boxes are compared. A mask without a pixel is
            compared by its box.
        overlap: intersection over union beyond which two rows are one; None = any.
        inside: share of the smaller one that lies in the other, beyond which two rows are one; None = any.

    Returns:
        (M,) row numbers, in order.
    """
    keep = torch.ones(len(group), dtype=torch.bool, device=group.device)
    if overlap is None and inside is None:
        return keep.nonzero()[:, 0]
    names, count = group.unique(return_counts=True)
    for name in names[count > 1]:
        rows = (group == name).nonzero()[:, 0]
        same = lie_together(boxes[rows].float(), masks(rows), overlap=overlap, inside=inside).cpu()
        stays = torch.ones(len(rows), dtype=torch.bool)
        for row in range(len(rows)):
            if stays[row]:
                stays[row + 1 :] &= ~same[row, row + 1 :]
        keep[rows] = stays.to(keep.device)
    return keep.nonzero()[:, 0]


def lie_together(
    boxes: Tensor, masks: Tensor | None, *, overlap: float | None = None, inside: float | None = None
) -> Tensor:
    """(n, 4) xyxy boxes, (n, P) masks or None -> (n, n) bool: the two are one thing (`best_of_overlapping`)."""
    low, high = torch.maximum(boxes[:, None, :2], boxes[:, :2]), torch.minimum(boxes[:, None, 2:], boxes[:, 2:])
    shared, area = (high - low).clamp(min=0).prod(-1), (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(-1)
    if masks is not None:
        pixels = masks.float()
        size = pixels.sum(1)
        known = (size[:, None] > 0) & (size > 0)
        first, second = torch.where(known, size[:, None], area[:, None]), torch.where(known, size, area)
        shared = torch.where(known, pixels @ pixels.T, shared)
    else:
        first, second = area[:, None], area
    same = torch.zeros_like(shared, dtype=torch.bool)
    if overlap is not None:
        same |= shared > overlap * (first + second - shared)
    if inside is not None:
        same |= shared > inside * torch.minimum(first, second)
    return same
