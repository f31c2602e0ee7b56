"""Mask losses at random points against the same points with all of autograd's memory."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from partglee.criterion.losses import dice_loss, mask_bce_loss
from partglee.criterion.point_losses import MatchedMasks, PointSampling, sampled_mask_losses
from partglee.ops.masks import mask_logits
from partglee.ops.points import sample_masks, sample_points, uncertain_points

F64 = torch.float64


def matched(count: int, *, targets: int = 3, size: int = 6, dtype: torch.dtype = F64) -> MatchedMasks:
    return MatchedMasks(
        embeds=torch.randn(count, 4, dtype=dtype, requires_grad=True),
        features=torch.randn(4, size, size + 2, dtype=dtype, requires_grad=True),
        masks=torch.rand(targets, 4 * size, 4 * size + 8) < 0.5,
        rows=torch.randint(targets, (count,)),
        boxes=torch.rand(count, 4, dtype=dtype),
    )


def all_at_once(one: MatchedMasks, sampling: PointSampling) -> tuple[Tensor, Tensor]:
    logits = mask_logits(one.embeds, one.features)
    points = uncertain_points(
        logits, num_points=sampling.num_points, oversample=sampling.oversample, importance=sampling.importance,
        boxes=one.boxes, near=sampling.near,
    )  # fmt: skip
    seen = sample_points(logits.unsqueeze(1), points).squeeze(1)
    wanted = sample_masks(one.masks, points, rows=one.rows, dtype=logits.dtype)
    return mask_bce_loss(seen, wanted), dice_loss(seen, wanted)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("near", [0.0, 0.5])
def test_values_and_gradients_are_those_of_autograd(near: float, dtype: torch.dtype) -> None:
    sampling = PointSampling(num_points=50, near=near)
    one, weights = matched(5, dtype=dtype), torch.randn(2, 5, dtype=dtype)
    leaves, results = (one.embeds, one.features), []
    for losses in (sampled_mask_losses([one], sampling), None):
        torch.manual_seed(3)
        found = torch.stack(all_at_once(one, sampling) if losses is None else sampled_mask_losses([one], sampling))
        results.append((found.detach(), *torch.autograd.grad((weights * found).sum(), leaves)))
    torch.testing.assert_close(results[0], results[1])


def test_gradients_by_differences() -> None:
    one = matched(3)

    def losses(embeds: Tensor, features: Tensor) -> Tensor:
        torch.manual_seed(1)
        again = MatchedMasks(embeds=embeds, features=features, masks=one.masks, rows=one.rows, boxes=one.boxes)
        sampling = PointSampling(num_points=7, oversample=1.0, importance=0.0)
        return torch.stack(sampled_mask_losses([again], sampling))

    assert gradcheck(losses, (one.embeds, one.features))


@pytest.mark.parametrize("at_once", [1, 400, 10**9])
def test_pieces_and_images_keep_their_rows(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On constant features and full or empty masks all points away from the edge have one value."""
    monkeypatch.setattr("partglee.criterion.point_losses._POINTS_AT_ONCE_CPU", at_once)
    images, wanted = [], []
    for rows in ([1, 0, 1, 1, 0], [0], []):
        embeds = torch.randn(len(rows), 4, dtype=F64)
        features = torch.randn(4, 1, 1, dtype=F64).expand(4, 1000, 1000)
        masks = torch.stack((torch.zeros(1000, 1000), torch.ones(1000, 1000))).bool()
        boxes = torch.rand(len(rows), 4, dtype=F64)
        index = torch.tensor(rows, dtype=torch.long)
        images.append(MatchedMasks(embeds=embeds, features=features, masks=masks, rows=index, boxes=boxes))
        for row, logit in zip(rows, (embeds @ features[:, 0, 0]).tolist(), strict=True):
            p = 1 / (1 + math.exp(-logit))
            wanted.append((-math.log(p if row else 1 - p), 1 - (128 * p * row + 1) / (64 * p + 64 * row + 1)))
    bce, dice = sampled_mask_losses(images, PointSampling(num_points=64, oversample=1.0, importance=0.0))
    found = torch.stack((bce, dice), 1)
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=F64), atol=0.02, rtol=0.02)


def test_without_gradients_nothing_is_kept() -> None:
    one = matched(2)
    with torch.no_grad():
        bce, dice = sampled_mask_losses([one], PointSampling(num_points=9))
    assert bce.shape == dice.shape == (2,) and not bce.requires_grad and not dice.requires_grad
