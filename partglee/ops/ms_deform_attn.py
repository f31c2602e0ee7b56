"""Multi-scale deformable attention: the public function and the one place that chooses how it is computed.

N images, S value rows, M heads, D channels per head, Q queries, L levels, P points per level.
"""

from __future__ import annotations

import torch
from torch import Tensor

from partglee.ops.level_shapes import SpatialShapes, level_ints
from partglee.ops.ms_deform_attn_reference import ms_deform_attn_grid_sample


def ms_deform_attn(
    value: Tensor,
    spatial_shapes: SpatialShapes,
    level_start_index: Tensor | None,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Weighted sum of bilinear samples of several feature maps, per query and head.

    Args:
        value: (N, S, M, D) float32, bfloat16, float16 or float64; the levels' pixels, row by row, one level after another.
        spatial_shapes: (L, 2) int64 (h, w) on the device of ``value``, or L pairs of integers, which need no copy.
        level_start_index: (L,) int64 first row of each level, or None where the levels lie one after the other.
        sampling_locations: (N, Q, M, L, P, 2), (x, y) in [0, 1] of each level's full extent.
        attention_weights: (N, Q, M, L, P).

    Returns:
        (N, Q, M * D) in the dtype of ``value``.
    """
    starts = None if level_start_index is None else [int(s) for s in level_start_index.tolist()]
    return ms_deform_attn_grid_sample(
        value, level_ints(spatial_shapes), starts, sampling_locations, attention_weights
    )
