"""The processes of a distributed run; alone, everything here is free of charge."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch import distributed as dist


def num_processes() -> int:
    """1 without torch.distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_over_processes(counts: Tensor) -> Tensor:
    """A new tensor with the sum of `counts` over all processes; every process must call this."""
    counts = counts.clone()
    if num_processes() > 1:
        dist.all_reduce(counts)
    return counts


def is_main_process() -> bool:
    """Whether this process computes and prints results."""
    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0


def gather(value: Any) -> list[Any]:
    """Values of all processes in rank order on rank 0, an empty list elsewhere; alone, `[value]`."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return [value]
    # gather_object needs a collective that NCCL only has for CUDA tensors; all_gather_object works with both backends.
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values if dist.get_rank() == 0 else []
