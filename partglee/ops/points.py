"""Masks at points instead of everywhere (PointRend, arXiv 1912.08193).

N maps or masks, C channels, h x w and H x W their sizes, P points. Points are (x, y) in [0, 1] of the canvas: 0 is the
outer edge of the first pixel, 1 the outer edge of the last, so maps of different strides share points.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def sample_points(maps: Tensor, points: Tensor) -> Tensor:
    """Bilinear values of (N, C, h, w) maps at (N, P, 2) points -> (N, C, P); zero outside."""
    if maps.ndim != 4 or points.ndim != 3 or points.shape[-1] != 2 or len(maps) != len(points):
        raise ValueError(
            f"expected maps (N, C, h, w) and points (N, P, 2), got {tuple(maps.shape)} and {tuple(points.shape)}"
        )
    if len(maps) == 0:
        return maps.new_zeros(0, maps.shape[1], points.shape[1])
    grid = 2 * points.unsqueeze(2) - 1
    return F.grid_sample(maps, grid.to(maps.dtype), mode="bilinear", align_corners=False).squeeze(-1)


def sample_masks(
    masks: Tensor, points: Tensor, *, rows: Tensor | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """`sample_points` for (N, H, W) bool masks, without a copy of any mask and without gradients.

    Args:
        points: (P, 2) that all masks share, or (N, P, 2), or (M, P, 2) with `rows`.
        rows: (M,) long, the mask that each row of `points` reads; None = one each.

    Returns:
        (N, P) or (M, P) in [0, 1].
    """
    if masks.ndim != 3 or points.shape[-1] != 2 or points.ndim not in (2, 3):
        raise ValueError(
            "expected masks (N, H, W) and points (N, P, 2) or (P, 2), "
            f"got {tuple(masks.shape)} and {tuple(points.shape)}"
        )
    height, width = masks.shape[-2:]
    x = points[..., 0].to(dtype) * width - 0.5
    y = points[..., 1].to(dtype) * height - 0.5
    left, top = x.floor(), y.floor()
    flat = masks.flatten(1)
    if rows is None:
        rows = torch.arange(len(masks), device=masks.device)
    value = torch.zeros(len(rows), points.shape[-2], dtype=dtype, device=masks.device)
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        column, row = left + dx, top + dy
        weight = (1 - (x - column).abs()) * (1 - (y - row).abs())
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        index = row.clamp(0, height - 1).long() * width + column.clamp(0, width - 1).long()
        corner = flat[rows.unsqueeze(1), index]
        value += corner.to(dtype) * (weight * inside)
    return value


def random_points(
    num: int, num_points: int, *, like: Tensor, boxes: Tensor | None = None, near: float = 0.0, margin: float = 1.5
) -> Tensor:
    """Points anywhere, but for the first `near` of them, which lie in or around a box.

    A part of 6 x 4 pixels on a canvas of 256 x 256 holds a third of one of 1,024 points that may lie anywhere.

    Args:
        num, num_points: N and P of the result.
        like: gives device and dtype.
        boxes: (N, 4) cxcywh in [0, 1]; None = points lie anywhere.
        near: share of points that lie within `margin` times the box of their row, as far as that is on the canvas.

    Returns:
        (N, P, 2).
    """
    points = torch.rand(num, num_points, 2, dtype=like.dtype, device=like.device)
    if boxes is None or not near or not num:
        return points
    close = round(near * num_points)
    half = margin / 2 * boxes[:, None, 2:]
    low, high = (boxes[:, None, :2] - half).clamp(0, 1), (boxes[:, None, :2] + half).clamp(0, 1)
    points[:, :close] = low + (high - low) * points[:, :close]
    return points


@torch.no_grad()
def uncertain_points(
    logits: Tensor,
    *,
    num_points: int,
    oversample: float,
    importance: float,
    boxes: Tensor | None = None,
    near: float = 0.0,
) -> Tensor:
    """Random points with a preference for those where a mask is undecided.

    Draws `oversample` times as many points as asked for, keeps the `importance` share of `num_points` whose logits are
    nearest to zero, and fills up with new random points.

    Args:
        logits: (N, h, w) mask logits.
        boxes, near: as of `random_points`, for the points drawn first and for the new ones.

    Returns:
        (N, num_points, 2).
    """
    if num_points < 1 or oversample < 1 or not 0 <= importance <= 1:
        raise ValueError(
            f"expected num_points >= 1, oversample >= 1 and importance in [0, 1], "
            f"got {num_points}, {oversample}, {importance}"
        )
    n = len(logits)
    # Coordinates need float32: half precision cannot tell neighbouring pixels of a large canvas apart.
    exact = logits.new_empty(0, dtype=torch.promote_types(logits.dtype, torch.float32))
    drawn = random_points(n, int(num_points * oversample), like=exact, boxes=boxes, near=near)
    undecided = -sample_points(logits.detach().unsqueeze(1), drawn).squeeze(1).abs()
    keep = int(num_points * importance)
    best = undecided.topk(keep, dim=1).indices
    kept = drawn.gather(1, best.unsqueeze(-1).expand(-1, -1, 2))
    fresh = random_points(n, num_points - keep, like=exact, boxes=boxes, near=near)
    return torch.cat((kept, fresh), dim=1)
