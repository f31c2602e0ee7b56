"""Lazily solved assignments against those of the whole cost."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from criterion_samples import random_level
from torch import Tensor

from partglee.criterion import matcher as matcher_module
from partglee.criterion.lazy_costs import solve_lazily
from partglee.criterion.matcher import Matcher, Matches, assign
from partglee.criterion.stack import PredictionStack, batch_targets

CPU = torch.device("cpu")


class Exact:
    """Exact costs that count how many were asked for."""

    def __init__(self, cost: Tensor) -> None:
        self.cost = cost
        self.asked = torch.zeros(cost.shape[:2], dtype=torch.int64)

    def __call__(self, sets: Tensor, queries: Tensor) -> Tensor:
        self.asked[sets, queries] += 1
        return self.cost[sets, queries]


def whole(cost: Tensor) -> list[tuple[int, int, int]]:
    found = [(layer, *pair) for layer in range(len(cost)) for pair in zip(*assign(cost[layer].numpy()), strict=True)]
    return [(layer, int(query), int(target)) for layer, query, target in found]


@pytest.mark.parametrize("spread", [0.01, 1.0, 30.0])
@pytest.mark.parametrize(("sets", "queries", "targets"), [(3, 40, 6), (2, 5, 5), (2, 4, 9), (1, 1, 1), (4, 60, 1)])
def test_pairs_are_those_of_the_whole_cost(spread: float, sets: int, queries: int, targets: int) -> None:
    """Bounds that say nearly everything, something, and nothing."""
    for seed in range(20):
        torch.manual_seed(seed)
        bounds = torch.randn(sets, queries, targets)
        cost = bounds + spread * torch.rand(sets, queries, targets)
        if seed % 3 == 0:
            forbidden = (torch.rand(queries, targets) < 0.6).expand(sets, -1, -1)
            bounds, cost = (x.masked_fill(forbidden, float("inf")) for x in (bounds, cost))
        exact = Exact(cost)
        pairs = solve_lazily(bounds, exact, assign)
        assert [tuple(column) for column in pairs.T.tolist()] == whole(cost)
        assert pairs.dtype == np.int64 and exact.asked.max() <= 1


def test_little_is_worked_out_where_bounds_say_much() -> None:
    bounds = 10 * torch.rand(5, 300, 4)
    exact = Exact(bounds + 0.5 * torch.rand(5, 300, 4))
    solve_lazily(bounds, exact, assign)
    assert exact.asked.sum() < 0.2 * 5 * 300
    forbidden = torch.full((2, 30, 3), float("inf"))
    assert solve_lazily(forbidden, Exact(forbidden), assign).shape == (3, 0)


@pytest.mark.parametrize("shape", [(2, 0, 3), (2, 3, 0), (2, 0, 0)])
def test_nothing_to_match(shape: tuple[int, int, int]) -> None:
    assert solve_lazily(torch.zeros(shape), Exact(torch.zeros(shape)), assign).shape == (3, 0)


def test_bounds_that_cannot_be_trusted_are_replaced_at_once() -> None:
    bounds, cost = torch.rand(1, 50, 2), torch.rand(1, 50, 2)
    cost[0, 41] = -5.0
    bounds[0, 41] = 100.0
    at_once = torch.zeros(1, 50, dtype=torch.bool)
    at_once[0, 41] = True
    pairs = solve_lazily(
        bounds, Exact(torch.maximum(cost, bounds).where(~at_once[..., None], cost)), assign, at_once=at_once
    )
    assert 41 in pairs[1]


def matches(
    monkeypatch: pytest.MonkeyPatch, lazily: bool, *, broken: bool, within: bool, options: dict[str, float]
) -> Matches:
    torch.manual_seed(7)
    stack = PredictionStack(("a", "b"), torch.randn(2, 2, 30, 3), torch.rand(2, 2, 30, 4), 3 * torch.randn(2, 2, 30, 5))
    if broken:
        stack.mask_embed[0, 0, 3:5] = float("nan")  # type: ignore[index]
        stack.logits[1, 0, 7] = float("nan")
    batch = batch_targets([random_level(4, 3), random_level(2, 3)], num_names=3, device=CPU, dtype=torch.float32)
    allowed = [torch.rand(30, 4) < 0.3, torch.rand(30, 2) < 0.3] if within else None
    matcher = Matcher(num_points=60, **options)  # type: ignore[arg-type]
    if not lazily:
        monkeypatch.setattr(
            matcher_module._Masked,
            "solve",
            lambda self: matcher_module._solve(self.whole().flatten(), self.cost.shape, None),
        )
    return matcher.start(stack, batch, torch.randn(2, 5, 8, 8), allowed).result()


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize("options", [{}, {"near": 0.5}, {"mask_weight": -3.0}, {"dice_weight": 0.0}])
def test_the_matcher_finds_the_same_pairs(
    monkeypatch: pytest.MonkeyPatch, broken: bool, within: bool, options: dict[str, float]
) -> None:
    lazily = matches(monkeypatch, True, broken=broken, within=within, options=options)
    at_once = matches(monkeypatch, False, broken=broken, within=within, options=options)
    assert lazily.counts == at_once.counts and sum(lazily.counts) > 0
    for one, other in zip(lazily[:4], at_once[:4], strict=True):
        assert torch.equal(one, other)
