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


@torch.no_grad()
def uncertain_points(logits: Tensor, *, num_points: int, oversample: float, importance: float) -> Tensor:
    """Random points with a preference for those where a mask is undecided.

    Draws `oversample` times as many points as asked for, keeps the `importance` share of `num_points` whose logits are
    nearest to zero, and fills up with new random points.

    Args:
        logits: (N, h, w) mask logits.

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
    dtype = torch.promote_types(logits.dtype, torch.float32)
    drawn = torch.rand(n, int(num_points * oversample), 2, dtype=dtype, device=logits.device)
    undecided = -sample_points(logits.detach().unsqueeze(1), drawn).squeeze(1).abs()
    keep = int(num_points * importance)
    best = undecided.topk(keep, dim=1).indices
    kept = drawn.gather(1, best.unsqueeze(-1).expand(-1, -1, 2))
    fresh = torch.rand(n, num_points - keep, 2, dtype=dtype, device=logits.device)
    return torch.cat((kept, fresh), dim=1)
