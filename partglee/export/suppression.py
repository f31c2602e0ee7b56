"""What post-processing does by loops and early ends, as tensor operations of a fixed number of rounds: a graph has no
other.

N rows, best first.
"""

from __future__ import annotations

import torch
from torch import Tensor


def greedy(same: Tensor, *, rounds: int) -> Tensor:
    """Rows that stay when every row goes that is one with a better row that stays.

    The answer is the one vector with keep[i] = no j < i has keep[j] and same[j, i]. Each round makes right one more row
    of the longest chain of rows that push each other out, so `rounds` = N is always enough.

    Args:
        same: (N, N) bool, symmetric.
        rounds: at least the length of the longest chain.

    Returns:
        (N,) bool.
    """
    worse = torch.triu(same.to(torch.float32), diagonal=1)  # [j, i]: j is better
    keep = torch.ones_like(worse[0])
    for _ in range(rounds):
        keep = (keep @ worse < 0.5).to(keep.dtype)
    return keep > 0.5


def rank_within(group: Tensor, counted: Tensor) -> Tensor:
    """(N,) groups and (N,) bool which rows count -> (N,) how many better rows that count each row's group has."""
    same = (group[:, None] == group[None]).to(torch.float32)
    return (torch.tril(same, diagonal=-1) @ counted.to(torch.float32)).to(torch.int64)
