"""Sampling at points against loops over corners."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from partglee.ops.points import random_points, sample_masks, sample_points, uncertain_points


def bilinear(image: Tensor, x: float, y: float) -> float:
    """Value of one (h, w) map at (x, y) in [0, 1]: each of four pixels counts by its nearness; zero outside."""
    h, w = image.shape
    column, row = x * w - 0.5, y * h - 0.5
    total = 0.0
    for r in (math.floor(row), math.floor(row) + 1):
        for c in (math.floor(column), math.floor(column) + 1):
            if 0 <= r < h and 0 <= c < w:
                total += float(image[r, c]) * (1 - abs(row - r)) * (1 - abs(column - c))
    return total


@pytest.mark.parametrize("size", [(1, 1), (5, 9), (16, 3)])
def test_sample_points_equals_loops(size: tuple[int, int]) -> None:
    maps = torch.randn(2, 3, *size, dtype=torch.float64)
    points = torch.rand(2, 7, 2, dtype=torch.float64)
    sampled = sample_points(maps, points)
    for n in range(2):
        for c in range(3):
            wanted = [bilinear(maps[n, c], x, y) for x, y in points[n].tolist()]
            torch.testing.assert_close(sampled[n, c], torch.tensor(wanted, dtype=torch.float64))


@pytest.mark.parametrize("size", [(1, 1), (6, 11)])
def test_sample_masks_equals_loops_and_float_sampling(size: tuple[int, int]) -> None:
    masks = torch.rand(3, *size) < 0.5
    points = torch.rand(3, 20, 2)
    own = sample_masks(masks, points)
    for n in range(3):
        wanted = torch.tensor([bilinear(masks[n], x, y) for x, y in points[n].tolist()])
        torch.testing.assert_close(own[n], wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(own, sample_points(masks[:, None].float(), points)[:, 0], atol=1e-5, rtol=0)
    shared = sample_masks(masks, points[0])
    torch.testing.assert_close(shared, sample_masks(masks, points[:1].expand(3, -1, -1)))


def test_sample_masks_rows_repeat_masks() -> None:
    masks = torch.rand(3, 8, 8) < 0.5
    rows = torch.tensor([2, 0, 2, 2])
    points = torch.rand(4, 9, 2)
    torch.testing.assert_close(sample_masks(masks, points, rows=rows), sample_masks(masks[rows], points))


def test_gradient_of_sample_points() -> None:
    maps = torch.randn(2, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    points = torch.rand(2, 6, 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda m: sample_points(m, points), (maps,))


def test_uncertain_points_prefer_the_edge_of_a_mask() -> None:
    logits = torch.linspace(-10, 10, 32).expand(2, 32, 32)  # undecided around x = 0.5
    points = uncertain_points(logits, num_points=400, oversample=3.0, importance=0.75)
    assert points.shape == (2, 400, 2)
    assert ((points >= 0) & (points <= 1)).all()
    near = ((points[..., 0] - 0.5).abs() < 0.2).float()
    assert near[:, :300].mean() > 0.99
    assert 0.2 < near[:, 300:].mean() < 0.6  # uniform: 0.4


def test_a_share_of_the_points_lies_in_and_around_the_box() -> None:
    boxes = torch.tensor([[0.5, 0.25, 0.1, 0.2], [0.99, 0.5, 0.1, 0.0], [0.3, 0.3, 0.0, 0.0]])
    points = random_points(3, 1000, like=boxes, boxes=boxes, near=0.6)
    for row, (cx, cy, width, height) in enumerate(boxes.tolist()):
        low, high = points[row, :600].amin(0), points[row, :600].amax(0)
        for got, bound in zip(
            [*low, *high], [cx - 0.75 * width, cy - 0.75 * height, cx + 0.75 * width, cy + 0.75 * height], strict=True
        ):
            assert abs(float(got) - min(max(bound, 0.0), 1.0)) < 0.01, row
    assert (points[:, 600:].amin((0, 1)) < 0.02).all() and (points[:, 600:].amax((0, 1)) > 0.98).all()
    logits = torch.randn(3, 8, 8)
    found = uncertain_points(logits, num_points=200, oversample=2.0, importance=0.5, boxes=boxes, near=1.0)
    assert found.shape == (3, 200, 2)
    assert ((found[0] - boxes[0, :2]).abs() <= 0.75 * boxes[0, 2:] + 1e-6).all()


def test_without_a_share_the_draws_are_those_of_before() -> None:
    boxes = torch.rand(2, 4)
    torch.manual_seed(0)
    plain = random_points(2, 50, like=boxes)
    torch.manual_seed(0)
    assert torch.equal(plain, random_points(2, 50, like=boxes, boxes=boxes, near=0.0))
    torch.manual_seed(0)
    assert torch.equal(plain, torch.rand(2, 50, 2))


def test_uncertain_points_without_importance_are_uniform() -> None:
    points = uncertain_points(torch.randn(1, 8, 8), num_points=50, oversample=1.0, importance=0.0)
    assert points.shape == (1, 50, 2)


def test_no_maps_and_no_points() -> None:
    assert sample_points(torch.zeros(0, 2, 4, 4), torch.zeros(0, 5, 2)).shape == (0, 2, 5)
    assert sample_masks(torch.zeros(0, 4, 4, dtype=torch.bool), torch.rand(5, 2)).shape == (0, 5)
    assert uncertain_points(torch.zeros(0, 4, 4), num_points=5, oversample=3.0, importance=0.75).shape == (0, 5, 2)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="expected maps"):
        sample_points(torch.zeros(2, 4, 4), torch.zeros(2, 5, 2))
    with pytest.raises(ValueError, match="expected masks"):
        sample_masks(torch.zeros(4, 4, dtype=torch.bool), torch.zeros(5, 2))
    with pytest.raises(ValueError, match="num_points"):
        uncertain_points(torch.zeros(1, 4, 4), num_points=0, oversample=3.0, importance=0.75)
