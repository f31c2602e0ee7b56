"""Which of several rows that lie on one another stay: greedy non-maximum suppression, by masks where there are some.

N rows, best first, G groups that do not see each other, P pixels.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

_ROWS_TOGETHER = 32


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
    if overlap is None and inside is None:
        return torch.arange(len(group), device=group.device)
    members: dict[int, list[int]] = {}
    for row, name in enumerate(group.tolist()):
        members.setdefault(name, []).append(row)
    several = [rows for rows in members.values() if len(rows) > 1]
    # All of it is asked for before any is waited for: groups cost a device no time of its own.
    asked = []
    for groups in _few_rows(several):
        rows = torch.tensor(list(itertools.chain(*groups)), device=group.device)
        found, sizes = masks(rows), [len(some) for some in groups]
        of_each = [None] * len(groups) if found is None else found.split(sizes)
        for some, pixels in zip(boxes[rows].float().split(sizes), of_each, strict=True):
            asked.append(lie_together(some, pixels, overlap=overlap, inside=inside).flatten())
    told = torch.cat(asked).tolist() if asked else []
    gone: set[int] = set()
    first = 0
    for some in several:
        for place, row in enumerate(some):
            if row not in gone:
                lies = told[first + place + 1 : first + len(some)]
                gone.update(itertools.compress(some[place + 1 :], lies))
            first += len(some)
    return torch.tensor([row for row in range(len(group)) if row not in gone], device=group.device, dtype=torch.int64)


def _few_rows(groups: list[list[int]]) -> Iterator[list[list[int]]]:
    """Groups whose masks are made together."""
    some: list[list[int]] = []
    for group in groups:
        if some and sum(map(len, some)) + len(group) > _ROWS_TOGETHER:
            yield some
            some = []
        some.append(group)
    if some:
        yield some


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
