"""Our operator in the forms in which the models of transformers call theirs.

N images, S value rows, M heads, D channels per head, Q queries, L levels, P points per level.

Each takes what the original takes, by position or name. transformers computes locations and weights in the model's own
dtype; here they become float32 (float64 with float64), since the operator's sums are never taken in half precision. The
result has the dtype that theirs has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .ops import ms_deform_attn
from .ops.level_shapes import SpatialShapes

# A location that is outside of every map, with all four corners: it contributes nothing.
_OUTSIDE = -1.0


def attend(value: Tensor, shapes: SpatialShapes, locations: Tensor, weights: Tensor) -> Tensor:
    """(N, S, M, D), levels one after the other, (N, Q, M, L, P, 2), (N, Q, M, L, P) -> (N, Q, M * D)."""
    result = torch.promote_types(value.dtype, weights.dtype)
    exact = torch.promote_types(torch.promote_types(result, locations.dtype), torch.float32)
    rows = value.to(exact) if exact == torch.float64 else value
    return ms_deform_attn(rows, shapes, None, locations.to(exact), weights.to(exact)).to(result)


def layer_forward(
    self: torch.nn.Module,
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_spatial_shapes_list: Sequence[tuple[int, int]],
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """In place of ``MultiScaleDeformableAttention.forward``, which has no state."""
    return attend(value, value_spatial_shapes_list, sampling_locations, attention_weights)


def function(
    value: Tensor,
    value_spatial_shapes: SpatialShapes,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """In place of ``multi_scale_deformable_attention``."""
    return attend(value, value_spatial_shapes, sampling_locations, attention_weights)


def function_v2(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """In place of ``multi_scale_deformable_attention_v2``, whose levels may have different numbers of points.

    The method ``discrete`` reads the nearest pixel and moves locations outside to the border; that is not our operator,
    so it stays with ``original``.
    """

    def multi_scale_deformable_attention_v2(
        value: Tensor,
        value_spatial_shapes: SpatialShapes,
        sampling_locations: Tensor,
        attention_weights: Tensor,
        num_points_list: list[int],
        method: str = "default",
    ) -> Tensor:
        if method != "default":
            given: tuple[Any, ...] = (value, value_spatial_shapes, sampling_locations, attention_weights)
            return original(*given, num_points_list, method)
        locations, weights = by_level(sampling_locations, attention_weights, num_points_list)
        return attend(value, value_spatial_shapes, locations, weights)

    return multi_scale_deformable_attention_v2


def by_level(locations: Tensor, weights: Tensor, num_points: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(N, Q, M, points of all levels, 2) and (N, Q, M, points of all levels) -> (N, Q, M, L, P, 2), (N, Q, M, L, P).

    Levels with fewer points than others get points outside, of weight 0.
    """
    most = max(num_points)
    if all(count == most for count in num_points):
        return locations.unflatten(3, (len(num_points), most)), weights.unflatten(3, (len(num_points), most))
    counts = list(num_points)
    wide = [F.pad(part, (0, 0, 0, most - part.shape[3]), value=_OUTSIDE) for part in locations.split(counts, dim=3)]
    padded = [F.pad(part, (0, most - part.shape[3])) for part in weights.split(counts, dim=3)]
    return torch.stack(wide, dim=3), torch.stack(padded, dim=3)
