"""Losses against loops, and the minimap's cells by hand."""

from __future__ import annotations

import math

import pytest
import torch
from rela.criterion import ReLACriterion, minimap_target
from rela.region_decoder import RegionOutput
from torch import Tensor
from torch.nn import functional as F

WEIGHTS = {"mask": 1.0, "minimap": 0.1, "no_target": 0.1, "dice": 0.2}


def some_output(expressions: int = 3, *, regions: int = 4, dtype: torch.dtype = torch.float64) -> RegionOutput:
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype)

    return RegionOutput(
        noise(expressions, regions, 2),
        noise(expressions, 2),
        noise(expressions, regions, 5),
        noise(expressions, 5, 4, 6),
    )


def some_masks(expressions: int = 3) -> tuple[Tensor, Tensor]:
    masks = torch.rand(expressions, 16, 24, generator=torch.Generator().manual_seed(1)) > 0.6
    masks[-1] = False
    return masks, torch.tensor([False] * (expressions - 1) + [True])


def cross_entropy(logits: Tensor, target: Tensor) -> float:
    """Weighted mean over elements, (n, 2) and (n,), one by one."""
    total = weights = 0.0
    for row, right in zip(logits, target, strict=True):
        weight = 1.1 if right else 0.9
        total -= weight * math.log(float(row.softmax(0)[int(right)]))
        weights += weight
    return total / weights


def test_against_loops() -> None:
    output = some_output()
    masks, no_target = some_masks()
    terms = ReLACriterion(num_regions=2, weights=WEIGHTS, factor=5.0)(output, masks, no_target)
    logits = F.interpolate(output.masks, size=(16, 24), mode="bilinear", align_corners=False)
    expected = cross_entropy(logits.permute(0, 2, 3, 1).reshape(-1, 2), masks.reshape(-1))
    assert float(terms["mask"]) == pytest.approx(5 * expected, rel=1e-5)
    cells = torch.stack([masks[:, :8, :12], masks[:, :8, 12:], masks[:, 8:, :12], masks[:, 8:, 12:]], dim=1)
    cells = cells.flatten(2).float().mean(-1) > 0.5
    assert float(terms["minimap"]) == pytest.approx(
        0.5 * cross_entropy(output.minimap.reshape(-1, 2), cells.reshape(-1))
    )
    assert float(terms["no_target"]) == pytest.approx(0.5 * cross_entropy(output.no_target, no_target))
    dice = []
    for e in range(2):  # the third means nothing
        p, g = (logits[e, 1] - logits[e, 0]).sigmoid(), masks[e].double()
        dice.append(1 - (2 * float((p * g).sum()) + 1) / (float(p.sum()) + float(g.sum()) + 1))
    assert float(terms["dice"]) == pytest.approx(sum(dice) / 2, rel=1e-5)


def test_terms_of_weight_zero_are_not_there() -> None:
    masks, no_target = some_masks()
    criterion = ReLACriterion(num_regions=2, weights={**WEIGHTS, "minimap": 0.0, "dice": 0.0})
    assert set(criterion(some_output(), masks, no_target)) == {"mask", "no_target"}


def test_without_any_target() -> None:
    masks = torch.zeros(2, 16, 24, dtype=torch.bool)
    terms = ReLACriterion(num_regions=2, weights=WEIGHTS)(some_output(2), masks, torch.tensor([True, True]))
    assert all(value.isfinite() for value in terms.values()) and terms["dice"] == 0


def test_gradients() -> None:
    masks, no_target = some_masks()
    criterion = ReLACriterion(num_regions=2, weights=WEIGHTS)
    tensors = [value.requires_grad_() for value in some_output()[:4]]

    def loss(*tensors: Tensor) -> Tensor:
        return torch.stack(list(criterion(RegionOutput(*tensors), masks, no_target).values())).sum()

    assert torch.autograd.gradcheck(loss, tensors)


@pytest.mark.parametrize(("rows", "centre", "area"), [(24, False, False), (25, True, True), (48, True, True)])
def test_minimap_cells_of_the_released_size(rows: int, centre: bool, area: bool) -> None:
    """480 pixels, 10 cells of 48: the released rule asks rows 23 and 24 of a cell; half a cell is no more than half."""
    masks = torch.zeros(1, 480, 480, dtype=torch.bool)
    masks[:, :rows] = True
    for rule, expected in (("centre", centre), ("area", area)):
        cells = minimap_target(masks, 10, rule=rule)
        assert cells.shape == (1, 10, 10)
        assert bool(cells[0, 0].all()) is expected and bool(cells[0, 0].any()) is expected
        assert not cells[0, 1:].any()


def test_minimap_rules_differ() -> None:
    masks = torch.zeros(2, 480, 480, dtype=torch.bool)
    masks[0, 48 + 23 : 48 + 25, 96 + 23 : 96 + 25] = True  # four central pixels alone
    masks[1, 48:96, 96:144] = True
    masks[1, 48 + 23, 96 + 23] = False  # all but one of them
    centre, area = (minimap_target(masks, 10, rule=rule) for rule in ("centre", "area"))
    assert centre[:, 1, 2].tolist() == [True, False] and area[:, 1, 2].tolist() == [False, True]
    assert centre.sum() == area.sum() == 1  # region k is cell (k // P, k % P)
    assert minimap_target(masks, 10).flatten(1)[1, 12]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"weights": {"focal": 1.0}}, "no loss 'focal'"), ({"weights": {}, "minimap_rule": "round"}, "minimap_rule")],
)
def test_wrong_values(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReLACriterion(num_regions=2, **options)


def test_masks_of_another_number() -> None:
    masks, no_target = some_masks(2)
    with pytest.raises(ValueError, match="E = 3 expressions"):
        ReLACriterion(num_regions=2, weights=WEIGHTS)(some_output(), masks, no_target)
