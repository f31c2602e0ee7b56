"""Losses against sums written out."""

from __future__ import annotations

import math

import pytest
import torch
from unires.criterion import UniRESCriterion


def written_out(logits: list[float], truth: list[float]) -> tuple[float, float]:
    p = [1 / (1 + math.exp(-value)) for value in logits]
    bce = -sum(t * math.log(q) + (1 - t) * math.log(1 - q) for q, t in zip(p, truth, strict=True)) / len(p)
    overlap = sum(q * t for q, t in zip(p, truth, strict=True))
    return bce, 1 - (2 * overlap + 1) / (sum(p) + sum(truth) + 1)


def test_on_the_map() -> None:
    """A place is worth the share of its pixels; what means nothing has no overlap to speak of."""
    torch.manual_seed(0)
    logits = torch.randn(3, 2, 3).double()
    masks = torch.rand(3, 4, 6) > 0.6
    masks[2] = False
    no_target = torch.tensor([False, False, True])
    terms = UniRESCriterion(weights={"bce": 2.0, "dice": 0.5})(logits, masks, no_target)
    expected = []
    for row in range(3):
        shares = [
            masks[row, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].double().mean().item() for y in range(2) for x in range(3)
        ]
        expected.append(written_out(logits[row].flatten().tolist(), shares))
    assert terms["bce"].item() == pytest.approx(2.0 * sum(b for b, _ in expected) / 3)
    assert terms["dice"].item() == pytest.approx(0.5 * (expected[0][1] + expected[1][1]) / 2)


def test_at_points_a_perfect_map_costs_little() -> None:
    torch.manual_seed(0)
    masks = torch.zeros(1, 32, 32, dtype=torch.bool)
    masks[:, 8:24, 8:24] = True
    logits = (masks.double() * 2 - 1) * 30
    criterion = UniRESCriterion(weights={"bce": 1.0, "dice": 1.0}, num_points=200, importance=0.0)
    none = torch.tensor([False])
    good, bad = criterion(logits, masks, none), criterion(-logits, masks, none)
    assert good["bce"] < 0.5 and good["dice"] < 0.1 and bad["bce"] > 20 and bad["dice"] > 0.9


@pytest.mark.parametrize("num_points", [0, 7])
def test_gradients(num_points: int) -> None:
    masks = torch.rand(2, 4, 4) > 0.5
    no_target = torch.tensor([False, True])
    masks[1] = False
    criterion = UniRESCriterion(weights={"bce": 1.0, "dice": 1.0}, num_points=num_points, importance=0.0)
    logits = torch.randn(2, 4, 4, dtype=torch.double, requires_grad=True)

    def total(values: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(5)
        return torch.stack(list(criterion(values, masks, no_target).values())).sum()

    assert torch.autograd.gradcheck(total, (logits,))


def test_nothing_is_meant_anywhere() -> None:
    criterion = UniRESCriterion(weights={"bce": 1.0, "dice": 1.0})
    logits = torch.zeros(2, 2, 2, requires_grad=True)
    terms = criterion(logits, torch.zeros(2, 4, 4, dtype=torch.bool), torch.tensor([True, True]))
    assert terms["dice"] == 0 and terms["bce"].item() == pytest.approx(math.log(2))
    sum(terms.values()).backward()  # type: ignore[union-attr]
    assert logits.grad is not None and bool(logits.grad.isfinite().all())


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="no loss 'focal'; losses are bce, dice"):
        UniRESCriterion(weights={"focal": 1.0})
    with pytest.raises(ValueError, match="at least 0, got -1"):
        UniRESCriterion(weights={}, num_points=-1)
    with pytest.raises(ValueError, match=r"E = 2 expressions, got \(1, 4, 4\) and \(2,\)"):
        UniRESCriterion(weights={"bce": 1.0})(
            torch.zeros(2, 2, 2), torch.zeros(1, 4, 4, dtype=torch.bool), torch.tensor([True, True])
        )
    assert set(UniRESCriterion(weights={"bce": 1.0, "dice": 0.0}).weights) == {"bce"}
