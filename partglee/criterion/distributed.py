"""Counts of all processes, for normalisers that do not depend on how images are spread."""

from __future__ import annotations

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
