"""Multi-scale deformable attention: the public function.

N images, S value rows, M heads, D channels per head, Q queries, L levels, P points per level.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .dispatch import choose
from .level_shapes import SpatialShapes, level_ints, level_tensors, start_list
from .ms_deform_attn_checks import check_inputs, check_levels
from .ms_deform_attn_reference import (
    ms_deform_attn_embedding_bag,
    ms_deform_attn_grid_sample,
)
from .native import OPERATORS

# Queries per pass of the embedding_bag path: indices and weights of a pass stay in the cache.
_CHUNK_QUERIES = 1024


def ms_deform_attn(
    value: Tensor,
    spatial_shapes: SpatialShapes,
    level_start_index: Tensor | None,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Weighted sum of bilinear samples of several feature maps, per query and head.

    A location outside a map, NaN or infinite contributes 0 and reads nothing; so does each corner outside the map.
    ``PARTGLEE_OPS`` chooses how it is computed (see ``dispatch``); the results agree to rounding.

    Args:
        value: (N, S, M, D) float32, bfloat16, float16 or float64; the levels' pixels, row by row, one level after
            another.
        spatial_shapes: (L, 2) int64 (h, w) on the device of ``value``, or L pairs of integers, which are copied to
            the device once and cached.
        level_start_index: (L,) int64 first row of each level, or None where the levels lie one after the other.
        sampling_locations: (N, Q, M, L, P, 2), (x, y) in [0, 1] of each level's full extent; float32, or float64 with
            float64 values. Never half precision: that moves locations by pixels.
        attention_weights: (N, Q, M, L, P), dtype as ``sampling_locations``.

    Returns:
        (N, Q, M * D) in the dtype of ``value``; sums are taken in float32 (float64 for float64).

    Raises:
        ValueError: shapes that do not fit together, levels that do not cover the rows of ``value``, several devices.
        TypeError: a dtype that is not listed above.
        RuntimeError: ``PARTGLEE_OPS=native`` without a compiled operator for the device. For tensors on an
            accelerator the sizes are not read (that would wait for the device); levels that do not fit give NaN.
    """
    check_inputs(value, spatial_shapes, level_start_index, sampling_locations, attention_weights)
    tracing = torch.compiler.is_compiling()
    sizes_known = not (tracing and isinstance(spatial_shapes, Tensor))
    backend = choose(
        value,
        sizes_known=sizes_known and (level_start_index is None or not tracing),
    )
    on_host = value.device.type == "cpu"
    if backend == "grid_sample" or (on_host and backend == "embedding_bag"):
        starts: list[int] | None = None
        if level_start_index is not None and (backend == "grid_sample" or not tracing):
            starts = start_list(level_start_index)
        if not tracing:
            check_levels(value, level_ints(spatial_shapes), starts)
    elif not tracing and not isinstance(spatial_shapes, Tensor):
        check_levels(value, level_ints(spatial_shapes), None)  # a start index on an accelerator is not read
    if backend == "grid_sample":
        return ms_deform_attn_grid_sample(
            value, level_ints(spatial_shapes), starts, sampling_locations, attention_weights
        )
    shapes, starts_tensor = level_tensors(spatial_shapes, level_start_index, value)
    if backend == "native":
        out: Tensor = OPERATORS.ms_deform_attn(value, shapes, starts_tensor, sampling_locations, attention_weights)
        return out
    # One pass where a derivative is needed: each pass would have a full-size gradient of the table.
    chunk = None if tracing or torch.is_grad_enabled() else _CHUNK_QUERIES
    return ms_deform_attn_embedding_bag(
        value, shapes, starts_tensor, sampling_locations, attention_weights, chunk_queries=chunk
    )
