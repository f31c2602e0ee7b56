"""Costs against loops, assignments against all permutations."""

from __future__ import annotations

import itertools
import math
import threading
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from partglee.criterion import matcher as matcher_module
from partglee.criterion.losses import dice_loss, giou_loss, mask_bce_loss
from partglee.criterion.matcher import Matcher, assign, focal_cost, mask_point_cost
from partglee.criterion.stack import PredictionStack, batch_targets
from partglee.structures import LevelTargets

CPU = torch.device("cpu")


def random_stack(layers: int = 2, images: int = 2, queries: int = 6, names: int = 3) -> PredictionStack:
    shape = (layers, images, queries)
    boxes = torch.rand(*shape, 4) * 0.5 + 0.2
    return PredictionStack(
        tuple(str(i) for i in range(layers)), torch.randn(*shape, names), boxes, torch.randn(*shape, 5)
    )


def random_targets(count: int, names: int = 3, *, masks: bool = True) -> LevelTargets:
    return LevelTargets(
        torch.randint(names, (count,)),
        torch.rand(count, 4) * 0.4 + 0.2,
        torch.rand(count, 32, 24) < 0.5 if masks else None,
    )


def by_loops(stack: PredictionStack, target: LevelTargets, layer: int, image: int, q: int, n: int) -> float:
    p = float(stack.logits[layer, image, q, target.labels[n]].sigmoid())
    cost = 4 * (-0.25 * (1 - p) ** 2 * math.log(p) + 0.75 * p**2 * math.log(1 - p))
    box, wanted = stack.boxes[layer, image, q].clamp(0, 1), target.boxes[n].clamp(0, 1)
    cost += 5 * float((box - wanted).abs().sum())
    return cost - 2 * (1 - float(giou_loss(box[None], wanted[None])))


def test_class_and_box_cost_equal_loops() -> None:
    stack, target = random_stack(), random_targets(4)
    cost = Matcher().cost(stack, 1, target.labels, target.boxes)
    assert cost.shape == (2, 6, 4)
    for layer, q, n in itertools.product(range(2), range(6), range(4)):
        assert float(cost[layer, q, n]) == pytest.approx(by_loops(stack, target, layer, 1, q, n), abs=1e-4)


def test_mask_point_cost_is_the_loss_of_each_pair() -> None:
    logits, targets = torch.randn(5, 40) * 3, torch.rand(3, 40)
    bce, dice = mask_point_cost(logits, targets)
    for q, n in itertools.product(range(5), range(3)):
        assert float(bce[q, n]) == pytest.approx(float(mask_bce_loss(logits[q], targets[n])), abs=1e-5)
        assert float(dice[q, n]) == pytest.approx(float(dice_loss(logits[q], targets[n])), abs=1e-5)


def test_mask_cost_equals_masks_made_first() -> None:
    """Features sampled and multiplied = masks multiplied and sampled: both are linear."""
    embeds, features = torch.randn(2, 4, 5), torch.randn(5, 8, 6)
    masks = torch.rand(3, 32, 24) < 0.5
    matcher = Matcher(num_points=300)
    torch.manual_seed(3)
    cost = matcher.mask_terms(features, masks).of(embeds.flatten(0, 1)).view(2, 4, 3)
    torch.manual_seed(3)
    grid = torch.rand(300, 2) * 2 - 1
    full = torch.einsum("aqe,ehw->aqhw", embeds, features)
    logits = torch.nn.functional.grid_sample(full, grid.expand(2, -1, -1)[:, None], align_corners=False)[:, :, 0]
    wanted = torch.nn.functional.grid_sample(masks[None].float(), grid[None, None], align_corners=False)[0, :, 0]
    for a, q, n in itertools.product(range(2), range(4), range(3)):
        pair = 5 * mask_bce_loss(logits[a, q], wanted[n]) + 5 * dice_loss(logits[a, q], wanted[n])
        assert float(cost[a, q, n]) == pytest.approx(float(pair), abs=1e-3)


def test_focal_cost_stays_finite() -> None:
    assert focal_cost(torch.tensor([-200.0, 200.0])).isfinite().all()


def best_by_permutations(cost: np.ndarray) -> float:
    q, n = cost.shape
    if q < n:
        return best_by_permutations(cost.T)
    return min(sum(cost[rows[j], j] for j in range(n)) for rows in itertools.permutations(range(q), n))


@pytest.mark.parametrize(("queries", "targets"), [(5, 3), (3, 5), (4, 4), (1, 1)])
def test_assignment_is_the_best_of_all(queries: int, targets: int) -> None:
    cost = np.random.default_rng(0).normal(size=(queries, targets))
    rows, columns = assign(cost)
    assert len(rows) == min(queries, targets)
    assert cost[rows, columns].sum() == pytest.approx(best_by_permutations(cost))


def test_forbidden_pairs_are_never_matched_but_as_many_as_possible_are() -> None:
    inf = float("inf")
    cost = np.array([[-50.0, 80.0, inf], [90.0, inf, inf], [inf, inf, inf]])
    rows, columns = assign(cost)
    assert sorted(zip(rows.tolist(), columns.tolist(), strict=True)) == [(0, 1), (1, 0)]
    assert len(assign(np.full((3, 2), inf))[0]) == 0


def test_matches_of_all_layers_and_images_in_one_call() -> None:
    stack = random_stack(layers=3)
    targets = [random_targets(4, masks=False), random_targets(2, masks=False)]
    matches = Matcher().start(stack, batch_targets(targets, num_names=3, device=CPU)).result()
    assert matches.counts == (12, 6)
    for layer, image in itertools.product(range(3), range(2)):
        target = targets[image]
        cost = np.array([[by_loops(stack, target, layer, image, q, n) for n in range(len(target))] for q in range(6)])
        pairs = (matches.layer == layer) & (matches.image == image)
        chosen = cost[matches.query[pairs].numpy(), matches.target[pairs].numpy()].sum()
        assert sorted(matches.target[pairs].tolist()) == list(range(len(target)))
        assert chosen == pytest.approx(best_by_permutations(cost), abs=1e-3)
    final = Matcher().start(stack, batch_targets(targets, num_names=3, device=CPU)).result(layer=2)
    assert final.query.tolist() == matches.query[matches.layer == 2].tolist()


def test_whoever_starts_a_matching_does_not_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller may do something else until it asks for the result, even if an assignment takes for ever."""
    started, solve = threading.Event(), matcher_module.assign

    def late(matrix: np.ndarray) -> Any:
        assert started.wait(20), "an assignment that runs before `start` returns"
        return solve(matrix)

    stack, targets = random_stack(layers=3), [random_targets(4, masks=False), random_targets(2, masks=False)]
    batch = batch_targets(targets, num_names=3, device=CPU)
    wanted = Matcher().start(stack, batch).result()
    monkeypatch.setattr(matcher_module, "assign", late)
    pending = Matcher().start(stack, batch)
    started.set()
    matches = pending.result()
    assert all(torch.equal(a, b) for a, b in zip(matches[:4], wanted[:4], strict=True))


def test_masks_decide_where_classes_and_boxes_do_not() -> None:
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    masks[0, :, :32] = masks[1, :, 32:] = True
    features = torch.where(torch.arange(16) < 8, 5.0, -5.0).expand(1, 1, 16, 16)
    stack = PredictionStack(
        ("final",), torch.zeros(1, 1, 2, 1), torch.full((1, 1, 2, 4), 0.5), torch.tensor([[[[-1.0], [1.0]]]])
    )
    target = LevelTargets(torch.zeros(2, dtype=torch.long), torch.full((2, 4), 0.5), masks)
    batch = batch_targets([target], num_names=1, device=CPU)
    matches = Matcher(num_points=200).start(stack, batch, features).result()
    assert dict(zip(matches.query.tolist(), matches.target.tolist(), strict=True)) == {0: 1, 1: 0}


def test_nan_predictions_still_give_an_assignment() -> None:
    stack = random_stack(images=1)
    stack.logits[:, :, 2:] = float("nan")
    stack.boxes[0] = float("nan")
    batch = batch_targets([random_targets(3)], num_names=3, device=CPU)
    matches = Matcher(num_points=50).start(stack, batch, torch.randn(1, 5, 8, 6) * float("inf")).result()
    assert matches.counts == (6,)


@pytest.mark.parametrize(("queries", "targets"), [(0, 3), (6, 0), (0, 0), (2, 5)])
def test_nothing_to_match(queries: int, targets: int) -> None:
    stack = random_stack(images=1, queries=queries)
    batch = batch_targets([random_targets(targets)], num_names=3, device=CPU)
    matches = Matcher(num_points=20).start(stack, batch, torch.randn(1, 5, 8, 6)).result()
    assert matches.counts == (2 * min(queries, targets),)


def test_allowed_pairs() -> None:
    stack, target = random_stack(images=1), random_targets(2, masks=False)
    allowed: Tensor = torch.zeros(6, 2, dtype=torch.bool)
    allowed[4, 0] = allowed[1, 1] = True
    matches = Matcher().start(stack, batch_targets([target], num_names=3, device=CPU), allowed=[allowed]).result()
    assert sorted(set(zip(matches.query.tolist(), matches.target.tolist(), strict=True))) == [(1, 1), (4, 0)]


@pytest.mark.parametrize(("labels", "range_"), [([1, 7, 0], r"0\.\.7"), ([0, -1, 2], r"-1\.\.2"), ([3], r"3\.\.3")])
def test_labels_beyond_the_vocabulary_are_named(labels: list[int], range_: str) -> None:
    wrong = LevelTargets(torch.tensor(labels), torch.zeros(len(labels), 4))
    with pytest.raises(ValueError, match=rf"labels of image 1 must lie in 0\.\.2, got {range_}"):
        batch_targets([random_targets(1), wrong], num_names=3, device=CPU)


def test_points_near_the_targets_tell_tiny_masks_apart() -> None:
    """Two parts of 4 x 4 pixels side by side on a canvas of 256, one map that marks the left and one the right."""
    masks = torch.zeros(2, 256, 256, dtype=torch.bool)
    masks[0, 100:104, 200:204] = masks[1, 100:104, 204:208] = True
    boxes = torch.tensor([[202.0, 102, 4, 4], [206, 102, 4, 4]]) / 256
    features = torch.full((2, 64, 64), -8.0)
    features[0, 25, 50] = features[1, 25, 51] = 8.0
    embeds = torch.eye(2)
    torch.manual_seed(0)
    blind = Matcher(num_points=64).mask_terms(features, masks, boxes).of(embeds)
    seeing = Matcher(num_points=64, near=0.5).mask_terms(features, masks, boxes).of(embeds)
    assert (blind - blind[0, 0]).abs().max() < 0.1  # none of 64 points lies in either
    assert (seeing.diag() < seeing.flip(0).diag() - 5).all()


def test_mask_point_cost_of_sure_logits() -> None:
    """Far from zero, where a sigmoid is 0 or 1 to the last digit, against float64."""
    logits = torch.tensor([[-1e4, -200.0, -88.0, -80.0, -17.0, 0.0, 17.0, 88.0, 1e4]])
    targets = torch.stack((torch.zeros(9), torch.ones(9), torch.arange(9) % 2.0))
    kept = logits.clone()
    bce, dice = mask_point_cost(logits, targets)
    x, t = logits.double(), targets.double()
    for n in range(3):
        wanted = F.binary_cross_entropy_with_logits(x[0], t[n])
        torch.testing.assert_close(bce[0, n].double(), wanted, rtol=1e-6, atol=1e-6)
        overlap, areas = (x.sigmoid()[0] * t[n]).sum(), x.sigmoid().sum() + t[n].sum()
        torch.testing.assert_close(dice[0, n].double(), 1 - (2 * overlap + 1) / (areas + 1), rtol=1e-6, atol=1e-6)
    assert torch.equal(logits, kept)


def test_mask_cost_does_not_depend_on_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    embed, features, masks = torch.randn(15, 4), torch.randn(4, 6, 6), torch.rand(2, 12, 12) > 0.5
    costs = []
    for most in (1, 40, 10**9):
        monkeypatch.setattr("partglee.criterion.matcher._MASK_ELEMENTS_CPU", most)
        torch.manual_seed(1)
        costs.append(Matcher(num_points=20).mask_terms(features, masks).of(embed))
    for cost in costs[1:]:
        torch.testing.assert_close(cost, costs[0], rtol=1e-6, atol=1e-6)
