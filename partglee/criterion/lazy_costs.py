"""The assignment of least cost without the whole cost: what masks add is worked out for queries that may be chosen.

On a processor the masks' part is nearly all of the cost of matching. It is never negative, so class and box terms are a
lower bound of a pair's cost. An assignment that is best by the bounds, and uses exact costs alone, is best by exact
costs: any other costs at least as much as its bounds say. As long as it uses bounds, these are made exact.

A prediction sets, Q queries, N targets of one image.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

FIRST = 4  # queries of each target that are worked out at once

Assign = Callable[[npt.NDArray[np.floating]], tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]
Rows = npt.NDArray[np.int64]


def solve_lazily(
    bounds: Tensor, exact: Callable[[Tensor, Tensor], Tensor], assign: Assign, *, at_once: Tensor | None = None
) -> npt.NDArray[np.int64]:
    """Pairs of least exact cost in each prediction set.

    Args:
        bounds: (A, Q, N) lower bounds of the costs, +inf where a pair is forbidden.
        exact: (n,) prediction sets and (n,) queries -> (n, N) exact costs, +inf where a pair is forbidden.
        assign: (Q, N) costs -> rows and columns.
        at_once: (A, Q) bool, queries whose bounds cannot be trusted.

    Returns:
        (3, M) prediction set, query, target.
    """
    cost = bounds.numpy().copy()
    num_sets, num_queries, num_targets = cost.shape
    if not num_queries or not num_targets:
        return np.zeros((3, 0), np.int64)
    known = np.isinf(cost).all(2)  # no pair of it is allowed
    wanted = _cheapest(cost, FIRST) & ~known
    if at_once is not None:
        wanted |= at_once.numpy() & ~known
    found: list[tuple[Rows, Rows]] = [(np.zeros(0, np.int64),) * 2] * num_sets
    open_sets = np.ones(num_sets, bool)
    while True:
        sets, queries = np.nonzero(wanted)
        if len(sets):
            cost[sets, queries] = exact(torch.from_numpy(sets), torch.from_numpy(queries)).numpy()
            known |= wanted
        wanted = np.zeros_like(known)
        for layer in np.flatnonzero(open_sets):
            found[layer] = query, target = assign(cost[layer])
            unknown = ~known[layer, query]
            if not unknown.any():
                open_sets[layer] = False
                continue
            worth = _cheaper(cost[layer], known[layer], query, target)
            worth[query[unknown]] = True
            if 2 * worth.sum() > num_queries:  # further rounds would ask for most of the rest
                worth[:] = True
            wanted[layer] = worth & ~known[layer]
        if not open_sets.any():
            break
    pairs = [np.stack([np.full(len(query), layer), query, target]) for layer, (query, target) in enumerate(found)]
    return np.concatenate(pairs, axis=1).astype(np.int64)


def _cheapest(cost: npt.NDArray[np.floating], count: int) -> npt.NDArray[np.bool_]:
    """(A, Q, N) -> (A, Q), the `count` queries of least cost of each target."""
    chosen = np.zeros(cost.shape[:2], bool)
    count = min(count, cost.shape[1])
    rows = np.argpartition(cost, count - 1, axis=1)[:, :count]  # (A, count, N)
    np.put_along_axis(chosen, rows.reshape(len(cost), -1), True, axis=1)
    return chosen


def _cheaper(
    cost: npt.NDArray[np.floating], known: npt.NDArray[np.bool_], query: Rows, target: Rows
) -> npt.NDArray[np.bool_]:
    """(Q, N) -> (Q,), queries that may be better for a target than the one it has, or than the best known one."""
    least = cost[known].min(axis=0, initial=np.inf)
    settled = known[query]
    least[target[settled]] = cost[query[settled], target[settled]]
    return (cost < least).any(1)
