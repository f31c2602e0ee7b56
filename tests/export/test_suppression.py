"""Suppression of a fixed number of rounds against the loop that it stands for."""

from __future__ import annotations

import pytest
import torch

from partglee.export.suppression import greedy, rank_within


def slow_greedy(same: torch.Tensor) -> list[bool]:
    keep: list[bool] = []
    for row in range(len(same)):
        keep.append(not any(keep[better] and bool(same[better, row]) for better in range(row)))
    return keep


@pytest.mark.parametrize("share", [0.0, 0.1, 0.4, 0.9])
@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_as_the_loop(count: int, share: float) -> None:
    generator = torch.Generator().manual_seed(count)
    for _ in range(20):
        same = torch.rand(count, count, generator=generator) < share
        same = same | same.T
        assert greedy(same, rounds=count).tolist() == slow_greedy(same)


def test_a_chain_needs_as_many_rounds_as_it_has_rows() -> None:
    chain = torch.zeros(9, 9, dtype=torch.bool)
    places = torch.arange(8)
    chain[places, places + 1] = chain[places + 1, places] = True
    assert greedy(chain, rounds=9).tolist() == [row % 2 == 0 for row in range(9)]
    assert greedy(chain, rounds=3).tolist() != [row % 2 == 0 for row in range(9)]


def test_ranks() -> None:
    group = torch.tensor([0, 1, 0, 0, 1])
    counted = torch.tensor([True, False, False, True, True])
    assert rank_within(group, counted).tolist() == [0, 0, 1, 1, 0]
