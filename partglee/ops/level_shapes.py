"""Level sizes as tensors and as integers, without a copy between host and device per call.

L feature levels; level l is H_l rows by W_l columns and starts at row ``level_start_index[l]`` of the flattened value.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

SpatialShapes = Tensor | Sequence[tuple[int, int]]

# A training run with multi-scale augmentation meets a few hundred padded sizes; beyond that the oldest goes.
_MAX_CACHED = 512

_cache: OrderedDict[tuple[object, ...], tuple[Tensor, Tensor]] = OrderedDict()
_cache_lock = Lock()
# Tensor -> (its version, its contents); an entry goes with its tensor.
_contents_of_tensor: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def level_tensors(
    spatial_shapes: SpatialShapes, level_start_index: Tensor | None, like: Tensor
) -> tuple[Tensor, Tensor]:
    """(L, 2) int64 (h, w) and (L,) int64 first rows, on the device of ``like``.

    A sequence of integers is copied to the device once per (shapes, device) and cached, so that a captured CUDA graph
    or a training step sees no copy. While tracing (``torch.compile``, ``torch.export``, fake tensors) nothing is
    cached: the tensors are built inside the graph, also from symbolic integers.
    """
    if isinstance(spatial_shapes, Tensor):
        shapes = spatial_shapes
    else:
        shapes, starts = _from_ints(spatial_shapes, like)
        return shapes, starts if level_start_index is None else level_start_index
    if level_start_index is None:
        level_start_index = _starts_of(shapes)
    return shapes, level_start_index


def level_ints(spatial_shapes: SpatialShapes) -> list[tuple[int, int]]:
    """[(h, w), ...] as integers.

    For a tensor on an accelerator this waits for the device, once per tensor (and per in-place change of it), not once
    per call: the layers of one image share the tensor.
    """
    if isinstance(spatial_shapes, Tensor):
        return [(row[0], row[1]) for row in _contents(spatial_shapes)]
    return [(h, w) for h, w in spatial_shapes]


def start_list(level_start_index: Tensor) -> list[int]:
    """[first row, ...] as integers; waits for an accelerator once per tensor, as ``level_ints``."""
    return list(_contents(level_start_index))


def start_ints(shapes: Sequence[tuple[int, int]]) -> list[int]:
    """First row of each level for levels that lie one after the other."""
    starts = [0]
    for h, w in shapes:
        starts.append(starts[-1] + h * w)
    return starts[:-1]


def cached_tensors() -> tuple[tuple[Tensor, Tensor], ...]:
    """Every cached pair, for a captured CUDA graph, which must keep what it reads from being freed."""
    with _cache_lock:
        return tuple(_cache.values())


def clear_cache() -> None:
    """Forget every cached tensor (tests; or to free device memory before a device is reset)."""
    with _cache_lock:
        _cache.clear()


def _contents(tensor: Tensor) -> list[Any]:
    if torch.compiler.is_compiling() or not _is_plain(tensor) or tensor.is_inference():
        return tensor.tolist()
    known = _contents_of_tensor.get(tensor)  # type: ignore[no-untyped-call]
    if known is None or known[0] != tensor._version:
        known = (tensor._version, tensor.tolist())
        _contents_of_tensor[tensor] = known
    return known[1]  # type: ignore[no-any-return]


def _starts_of(shapes: Tensor) -> Tensor:
    areas = shapes[:, 0] * shapes[:, 1]
    return areas.cumsum(0) - areas


def _from_ints(shapes: Sequence[tuple[int, int]], like: Tensor) -> tuple[Tensor, Tensor]:
    traced = torch.compiler.is_compiling() or not _is_plain(like)
    if traced or not all(type(size) is int for shape in shapes for size in shape):
        return _build_in_graph(shapes, like.device)
    key = (like.device, *((h, w) for h, w in shapes))
    with _cache_lock:
        known = _cache.get(key)
        if known is not None:
            _cache.move_to_end(key)
            return known
    # A tensor born in inference mode could not be saved for a later backward.
    with torch.inference_mode(False):
        table = torch.tensor([list(shape) for shape in shapes], dtype=torch.int64).reshape(-1, 2)
        pair = (
            table.to(like.device),
            torch.tensor(start_ints(shapes), dtype=torch.int64)[: len(shapes)].to(like.device),
        )
    if all(_is_plain(tensor) for tensor in pair):
        with _cache_lock:
            _cache[key] = pair
            if len(_cache) > _MAX_CACHED:
                _cache.popitem(last=False)
    return pair


def _build_in_graph(shapes: Sequence[tuple[int, int]], device: torch.device) -> tuple[Tensor, Tensor]:
    def scalar(size: int) -> Tensor:
        # torch.full takes symbolic integers and fills on the device: no copy.
        return torch.full((), size, dtype=torch.int64, device=device)

    if all(type(size) is int for shape in shapes for size in shape):
        table = torch.tensor([list(shape) for shape in shapes], dtype=torch.int64, device=device)
        starts = torch.tensor(start_ints(shapes)[: len(shapes)], dtype=torch.int64, device=device)
        return table.reshape(-1, 2), starts
    table = torch.stack([torch.stack([scalar(h), scalar(w)]) for h, w in shapes])
    return table, torch.stack([scalar(start) for start in start_ints(shapes)])


def _is_plain(tensor: Tensor) -> bool:
    """True for real tensors; fake and functional ones must never meet the cache."""
    return type(tensor) in (Tensor, torch.nn.Parameter) and not torch._is_functional_tensor(tensor)
