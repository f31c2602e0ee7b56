"""What may be wrong with the arguments of multi-scale deformable attention, found from metadata alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .level_shapes import SpatialShapes

_VALUE_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def check_inputs(
    value: Tensor,
    spatial_shapes: SpatialShapes,
    level_start_index: Tensor | None,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> None:
    """Raise ValueError or TypeError for the first argument that does not fit; reads no tensor contents."""
    if value.dim() != 4:
        raise ValueError(
            f"value must be (N, S, M, D), got shape {tuple(value.shape)}; "
            "split the channels into heads with .unflatten(-1, (num_heads, -1))"
        )
    if sampling_locations.dim() != 6 or sampling_locations.shape[-1] != 2:
        raise ValueError(
            "sampling_locations must be (N, Q, M, L, P, 2), "
            f"got shape {tuple(sampling_locations.shape)}; the last dimension is (x, y)"
        )
    images, heads = value.shape[0], value.shape[2]
    levels = len(spatial_shapes)
    given = sampling_locations.shape
    if (given[0], given[2], given[3]) != (images, heads, levels):
        raise ValueError(
            f"sampling_locations must be (N, Q, M, L, P, 2) with N = {images} and M = {heads} of value and "
            f"L = {levels} of spatial_shapes, got shape {tuple(given)}; check the order of its dimensions"
        )
    if attention_weights.shape != given[:-1]:
        raise ValueError(
            "attention_weights must have the shape of sampling_locations without its last dimension, "
            f"{tuple(given[:-1])}, got {tuple(attention_weights.shape)}; "
            "unflatten them to (N, Q, M, L, P) after the softmax"
        )
    _check_dtypes(value, sampling_locations, attention_weights)
    devices = {value.device, sampling_locations.device, attention_weights.device}
    for name, index in (
        ("spatial_shapes", spatial_shapes),
        ("level_start_index", level_start_index),
    ):
        if isinstance(index, Tensor):
            _check_index(name, index, levels)
            devices.add(index.device)
    if len(devices) > 1:
        raise ValueError(
            f"all tensors must be on one device, got {', '.join(sorted(str(d) for d in devices))}; "
            "move them with .to(value.device), or pass spatial_shapes as a list of (h, w)"
        )


def check_levels(value: Tensor, shapes: Sequence[tuple[int, int]], starts: Sequence[int] | None) -> None:
    """Raise ValueError unless the levels are sizes and cover every row of ``value`` exactly once."""
    if any(h < 0 or w < 0 for h, w in shapes):
        raise ValueError(f"spatial_shapes must hold sizes (h, w) of at least 0, got {list(shapes)}")
    rows = sum(h * w for h, w in shapes)
    if rows != value.shape[1]:
        raise ValueError(
            f"the levels of spatial_shapes {list(shapes)} have {rows} rows, value has {value.shape[1]}; "
            "pass the (h, w) of the feature maps that were flattened into value"
        )
    if starts is None:
        return
    expected = 0
    for start, area in sorted((start, h * w) for start, (h, w) in zip(starts, shapes, strict=True) if h * w):
        if start != expected:
            raise ValueError(
                f"level_start_index {list(starts)} does not fit spatial_shapes {list(shapes)}: a level starts at row "
                f"{start} where {expected} was expected; pass None where the levels lie one after the other"
            )
        expected += area


def _check_dtypes(value: Tensor, locations: Tensor, weights: Tensor) -> None:
    if value.dtype not in _VALUE_DTYPES:
        raise TypeError(f"value must be float32, bfloat16, float16 or float64, got {value.dtype}; convert it first")
    exact = torch.float64 if value.dtype == torch.float64 else torch.float32
    for name, tensor in (("sampling_locations", locations), ("attention_weights", weights)):
        if tensor.dtype != exact:
            raise TypeError(
                f"{name} must be {exact} for {value.dtype} values, got {tensor.dtype}; "
                f"call .to({exact}) before the location arithmetic: half precision moves locations by pixels"
            )


def _check_index(name: str, index: Tensor, levels: int) -> None:
    shape = (levels, 2) if name == "spatial_shapes" else (levels,)
    if tuple(index.shape) != shape:
        letters = "(L, 2)" if len(shape) == 2 else "(L,)"
        raise ValueError(f"{name} must be {letters} = {shape}, got shape {tuple(index.shape)}; one entry per level")
    if index.dtype != torch.int64:
        raise TypeError(f"{name} must be int64, got {index.dtype}; call .long() on it")
