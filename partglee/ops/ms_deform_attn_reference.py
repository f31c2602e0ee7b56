"""Multi-scale deformable attention in plain PyTorch: two formulations of one definition.

N images, S value rows, M heads, D channels per head, Q queries, L levels, P points per level.

The definition, for each image, query and head: ``out = sum over levels and points of weight * sample(value_l, x, y)``
with the bilinear sample at ``x = loc_x * W - 0.5``, ``y = loc_y * H - 0.5``. A corner outside the map contributes 0 and
is not read (an infinite value beside the border does not leak through a zero weight). A location that is NaN or
infinite contributes 0. Source of the definition: "Deformable DETR", arXiv 2010.04159, section 4.1.

``grid_sample`` is the oracle: short, differentiable, on every device, and the form that exports to ONNX (GridSample,
opset 16). ``embedding_bag`` computes the same sums as rows of one table and is several times faster on a CPU; it takes
the level sizes as a tensor, so it also traces where the sizes are not known.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .level_shapes import start_ints

# Beyond any map of at least one pixel on either side: contributes 0, has no gradient, and stays finite in float32.
_FAR_LOW, _FAR_HIGH = -2.0, 3.0


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of locations, weights and sums for values of ``dtype``: float64 for float64, otherwise float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def ms_deform_attn_grid_sample(
    value: Tensor,
    spatial_shapes: Sequence[tuple[int, int]],
    level_start_index: Sequence[int] | None,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """The oracle, through ``torch.nn.functional.grid_sample``.

    Args:
        value: (N, S, M, D), any floating dtype; sampled in float32 (float64 for float64).
        spatial_shapes: L pairs (h, w).
        level_start_index: L first rows, or None where the levels lie one after the other.
        sampling_locations: (N, Q, M, L, P, 2), (x, y) in [0, 1] of the level.
        attention_weights: (N, Q, M, L, P).

    Returns:
        (N, Q, M * D) in the dtype of ``value``.
    """
    num_images, _, num_heads, head_dim = value.shape
    num_queries, num_points = sampling_locations.shape[1], sampling_locations.shape[4]
    acc = accumulation_dtype(value.dtype)
    if _is_empty(value, sampling_locations):
        return _zeros(value, sampling_locations, attention_weights)
    starts = start_ints(spatial_shapes) if level_start_index is None else level_start_index
    grids = _bounded(sampling_locations.to(acc)) * 2 - 1
    weights = attention_weights.to(acc).permute(0, 2, 3, 1, 4)  # (N, M, L, Q, P)
    samples = []
    for level, (h, w) in enumerate(spatial_shapes):
        rows = value[:, starts[level] : starts[level] + h * w]
        if h * w == 0:
            samples.append(
                value.new_zeros((), dtype=acc).expand(num_images * num_heads, head_dim, num_queries, num_points)
            )
            continue
        maps = rows.to(acc).permute(0, 2, 3, 1).reshape(num_images * num_heads, head_dim, h, w)
        grid = grids[:, :, :, level].transpose(1, 2).flatten(0, 1)  # (N * M, Q, P, 2)
        samples.append(
            F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        )  # (N * M, D, Q, P)
    stacked = torch.stack(samples, dim=2).flatten(3)  # (N * M, D, L, Q * P)
    flat_weights = weights.reshape(num_images * num_heads, 1, len(samples), num_queries * num_points)
    summed = (stacked * flat_weights).sum(2).reshape(-1, head_dim, num_queries, num_points).sum(-1)
    out = summed.reshape(num_images, num_heads * head_dim, num_queries).transpose(1, 2)
    return out.to(value.dtype)


def ms_deform_attn_embedding_bag(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    *,
    chunk_queries: int | None = None,
) -> Tensor:
    """The same sums as weighted rows of one table (``torch.nn.functional.embedding_bag``).

    Args:
        value: (N, S, M, D), any floating dtype; rows are summed in float32 (float64 for float64).
        spatial_shapes: (L, 2) int64 (h, w).
        level_start_index: (L,) int64.
        sampling_locations: (N, Q, M, L, P, 2), (x, y) in [0, 1] of the level.
        attention_weights: (N, Q, M, L, P).
        chunk_queries: queries per pass; a pass of about 1,000 keeps indices and weights in the cache.

    Returns:
        (N, Q, M * D) in the dtype of ``value``.
    """
    num_images, _, num_heads, head_dim = value.shape
    num_queries = sampling_locations.shape[1]
    acc = accumulation_dtype(value.dtype)
    if _is_empty(value, sampling_locations):
        return _zeros(value, sampling_locations, attention_weights)
    # The extra row of zeros is where corners outside their map point: a clamped row times 0 would let infinity through.
    table = torch.cat([value.to(acc).reshape(-1, head_dim), value.new_zeros((1, head_dim), dtype=acc)])
    step = num_queries if chunk_queries is None else chunk_queries
    if chunk_queries is None or num_queries <= step:
        bags = _bags(
            table,
            value.shape,
            spatial_shapes,
            level_start_index,
            sampling_locations,
            attention_weights,
        )
        return bags.reshape(num_images, num_queries, num_heads * head_dim).to(value.dtype)
    out = value.new_empty(num_images, num_queries, num_heads * head_dim)
    for first in range(0, num_queries, step):
        part = slice(first, min(first + step, num_queries))
        bags = _bags(
            table,
            value.shape,
            spatial_shapes,
            level_start_index,
            sampling_locations[:, part],
            attention_weights[:, part],
        )
        out[:, part] = bags.reshape(num_images, part.stop - first, num_heads * head_dim)
    return out


def _bags(
    table: Tensor,
    value_shape: Sequence[int],
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """(N * Q * M, D) sums over the four corners of every point."""
    num_images, num_rows, num_heads, _ = value_shape
    outside = num_images * num_rows * num_heads  # the row of zeros
    index_dtype = torch.int32 if outside < 2**31 - 1 else torch.int64
    h, w = (spatial_shapes[:, axis, None] for axis in (0, 1))  # (L, 1)
    locations = _bounded(sampling_locations.to(table.dtype))
    x = locations[..., 0] * w - 0.5  # (N, Q, M, L, P)
    y = locations[..., 1] * h - 0.5
    x_low, y_low = x.floor(), y.floor()
    right, bottom = x - x_low, y - y_low
    weights = attention_weights.to(table.dtype)
    columns, rows = x_low.to(index_dtype), y_low.to(index_dtype)
    h, w = h.to(index_dtype), w.to(index_dtype)
    image = torch.arange(num_images, device=table.device, dtype=index_dtype)
    head = torch.arange(num_heads, device=table.device, dtype=index_dtype)
    first = image.view(-1, 1, 1, 1, 1) * num_rows + level_start_index.to(index_dtype)[:, None]
    indices, corner_weights = [], []
    for down, vertical in ((0, (1 - bottom) * weights), (1, bottom * weights)):
        row = rows + down
        row_inside = (row >= 0) & (row < h)
        base = (first + row * w) * num_heads + head.view(-1, 1, 1)
        for aside, horizontal in ((0, 1 - right), (1, right)):
            column = columns + aside
            inside = row_inside & (column >= 0) & (column < w)
            indices.append(torch.where(inside, base + column * num_heads, outside))
            corner_weights.append(vertical * horizontal)
    bag_size = 4 * weights.shape[3] * weights.shape[4]
    return F.embedding_bag(
        torch.stack(indices, dim=-1).reshape(-1, bag_size),
        table,
        per_sample_weights=torch.stack(corner_weights, dim=-1).reshape(-1, bag_size),
        mode="sum",
    )


def _is_empty(value: Tensor, sampling_locations: Tensor) -> bool:
    """No image, query, head, channel, level or point: grid_sample and embedding_bag refuse some of these."""
    return 0 in (value.shape[0], *value.shape[2:], *sampling_locations.shape)


def _zeros(value: Tensor, sampling_locations: Tensor, attention_weights: Tensor) -> Tensor:
    """The sum over nothing, which keeps its place in the graph; empty slices, so that no NaN gets in."""
    num_images, _, num_heads, head_dim = value.shape
    out = value.new_zeros(num_images, sampling_locations.shape[1], num_heads * head_dim)
    parts = [t.flatten()[:0].sum().to(out.dtype) for t in (value, sampling_locations, attention_weights)]
    return out + torch.stack(parts).sum()


def _bounded(locations: Tensor) -> Tensor:
    """Locations that are NaN or far outside moved to a place outside every map, where they contribute 0."""
    return locations.nan_to_num(nan=_FAR_LOW).clamp(_FAR_LOW, _FAR_HIGH)
