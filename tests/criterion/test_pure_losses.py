"""Each loss against loops over numbers, and its gradient against differences."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from partglee.criterion.losses import (
    dice_loss,
    distillation_loss,
    focal_loss,
    giou_loss,
    l1_loss,
    labelled_queries,
    mask_bce_loss,
    restriction_loss,
    restriction_normaliser,
    supervised_pairs,
)

F64 = torch.float64


def random_boxes(*shape: int) -> Tensor:
    """cxcywh boxes that stay inside [0, 1]."""
    return torch.cat((0.3 + 0.4 * torch.rand(*shape, 2, dtype=F64), 0.1 + 0.3 * torch.rand(*shape, 2, dtype=F64)), -1)


def corners(box: list[float]) -> tuple[float, float, float, float]:
    cx, cy, w, h = box
    return cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2


def overlap(a: list[float], b: list[float]) -> float:
    ax0, ay0, ax1, ay1 = corners(a)
    bx0, by0, bx1, by1 = corners(b)
    return max(0.0, min(ax1, bx1) - max(ax0, bx0)) * max(0.0, min(ay1, by1) - max(ay0, by0))


def focal_of(x: float, positive: bool) -> float:
    p = 1 / (1 + math.exp(-x))
    return -0.25 * (1 - p) ** 2 * math.log(p) if positive else -0.75 * p**2 * math.log(1 - p)


def test_focal_loss_equals_loops() -> None:
    logits = torch.randn(2, 2, 3, 4, dtype=F64)
    positive = torch.rand(logits.shape) < 0.3
    weight = torch.rand(logits.shape) < 0.7
    for used in (None, weight):
        wanted = [0.0, 0.0]
        for index in torch.cartesian_prod(*(torch.arange(n) for n in logits.shape)).tolist():
            if used is None or used[tuple(index)]:
                wanted[index[0]] += focal_of(float(logits[tuple(index)]), bool(positive[tuple(index)]))
        torch.testing.assert_close(focal_loss(logits, positive, used), torch.tensor(wanted, dtype=F64))
    assert gradcheck(lambda x: focal_loss(x, positive, weight), (logits.requires_grad_(),))


def test_what_is_not_supervised_may_be_infinite() -> None:
    logits = torch.tensor([[[[0.0, float("inf")]]]], requires_grad=True)
    weight = torch.tensor([[[[True, False]]]])
    focal_loss(logits, torch.zeros_like(weight), weight).sum().backward()
    assert logits.grad is not None and logits.grad.isfinite().all() and logits.grad[..., 1] == 0


def test_supervised_pairs_equal_loops() -> None:
    positive = torch.zeros(2, 2, 5, 3, dtype=torch.bool)
    matched = torch.zeros(2, 2, 5, dtype=torch.bool)
    for layer, image, query, name in ((0, 0, 1, 2), (1, 0, 4, 0), (1, 1, 2, 1)):
        positive[layer, image, query, name] = matched[layer, image, query] = True
    negatives = torch.tensor([[True, False, False], [True, True, False]])
    for looked_for in (None, negatives):
        for background in (None, torch.rand(2, 2, 5) < 0.5):
            found = supervised_pairs(positive, matched, looked_for, background)
            for a, b, q, c in torch.cartesian_prod(*(torch.arange(n) for n in positive.shape)).tolist():
                wanted = (matched[a, b, q] or background is None or background[a, b, q]) and (
                    looked_for is None or looked_for[b, c]
                )
                wanted = bool(wanted or positive[a, b, q, c])
                assert (True if found is None else bool(found[a, b, q, c])) == wanted


def test_labelled_queries_equal_loops() -> None:
    boxes = random_boxes(2 * 3 * 40).view(2, 3, 40, 4)
    regions = [random_boxes(2), None, random_boxes(0)]
    kinds = set()
    for background in (None, [True, True, True], [False, True, True], [False, False, False]):
        for labelled in (None, regions, [None, None, None]):
            found = labelled_queries(boxes, background, labelled)
            for a, b, q in torch.cartesian_prod(*(torch.arange(n) for n in (2, 3, 40))).tolist():
                box, wanted = boxes[a, b, q].tolist(), background is None or background[b]
                if labelled is not None and labelled[b] is not None:
                    area = box[2] * box[3]
                    wanted = wanted and any(overlap(box, r) / area >= 0.5 for r in labelled[b].tolist())
                assert (True if found is None else bool(found[a, b, q])) == wanted
                kinds.add((wanted, labelled is regions and b == 0))
    assert len(kinds) == 4, "both outcomes, with regions and without"


def test_box_losses_equal_loops() -> None:
    boxes, targets = random_boxes(6), random_boxes(6)
    boxes[0, :2], targets[0, :2] = 0.2, 0.8  # far apart
    l1, giou = [], []
    for a, b in zip(boxes.tolist(), targets.tolist(), strict=True):
        l1.append(sum(abs(x - y) for x, y in zip(a, b, strict=True)))
        ca, cb = corners(a), corners(b)
        inter = overlap(a, b)
        union = a[2] * a[3] + b[2] * b[3] - inter
        hull = (max(ca[2], cb[2]) - min(ca[0], cb[0])) * (max(ca[3], cb[3]) - min(ca[1], cb[1]))
        giou.append(1 - (inter / union - (hull - union) / hull))
    torch.testing.assert_close(l1_loss(boxes, targets), torch.tensor(l1, dtype=F64))
    torch.testing.assert_close(giou_loss(boxes, targets), torch.tensor(giou, dtype=F64), atol=1e-7, rtol=0)
    assert gradcheck(lambda x: l1_loss(x, targets), (boxes.requires_grad_(),))
    assert gradcheck(lambda x: giou_loss(x, targets), (boxes,))


def test_giou_of_a_tiny_box_is_exact() -> None:
    box = torch.tensor([[0.5, 0.5, 1e-3, 1e-3]])
    assert float(giou_loss(box, box)) < 1e-3


def test_mask_losses_equal_loops() -> None:
    logits, targets = torch.randn(3, 8, dtype=F64), torch.rand(3, 8, dtype=F64)
    for row in range(3):
        bce = inter = area = wanted = 0.0
        for x, t in zip(logits[row].tolist(), targets[row].tolist(), strict=True):
            p = 1 / (1 + math.exp(-x))
            bce -= t * math.log(p) + (1 - t) * math.log(1 - p)
            inter, area, wanted = inter + p * t, area + p, wanted + t
        assert float(mask_bce_loss(logits, targets)[row]) == pytest.approx(bce / 8)
        assert float(dice_loss(logits, targets)[row]) == pytest.approx(1 - (2 * inter + 1) / (area + wanted + 1))
    assert gradcheck(lambda x: mask_bce_loss(x, targets), (logits.requires_grad_(),))
    assert gradcheck(lambda x: dice_loss(x, targets), (logits,))


def test_restriction_equals_loops() -> None:
    parts, parents = random_boxes(8), random_boxes(8)
    parts[0] = torch.tensor([0.5, 0.5, 0.1, 0.1])
    parents[0] = torch.tensor([0.5, 0.5, 0.4, 0.4])
    wanted = [1 - overlap(p, o) / (p[2] * p[3]) for p, o in zip(parts.tolist(), parents.tolist(), strict=True)]
    found = restriction_loss(parts, parents)
    assert float(found[0]) == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=F64))
    parts[0, 0] = 0.45  # exactly on a kink of min and max no difference quotient is right
    assert gradcheck(restriction_loss, (parts.requires_grad_(), parents.requires_grad_()))


def test_restriction_compares_what_lies_in_the_image() -> None:
    """Centres and sides are clamped to [0, 1] first, of both boxes: a side of 1.6 reaches no further than one of 1."""
    part, wide = torch.tensor([[0.1, 0.5, 0.4, 0.2]]), torch.tensor([[0.5, 0.5, 1.6, 1.0]])
    assert restriction_loss(part, wide).tolist() == pytest.approx([0.25])
    assert restriction_loss(wide, part).tolist() == pytest.approx([1 - 0.3 * 0.2])
    beyond = torch.tensor([[1.3, 0.5, 0.4, 0.2]])
    assert restriction_loss(torch.tensor([[0.9, 0.5, 0.2, 0.2]]), beyond).tolist() == pytest.approx([0.0], abs=1e-6)


def test_restriction_of_boxes_without_area_or_number() -> None:
    parts = torch.tensor([[0.5, 0.5, 0.0, 0.3], [float("nan")] * 4, [0.2, 0.2, 0.1, 0.1]], requires_grad=True)
    loss = restriction_loss(parts, torch.tensor([[0.8, 0.8, 0.1, 0.1]]).expand(3, 4))
    assert loss.tolist() == [0.0, 0.0, pytest.approx(1.0)]
    loss.sum().backward()
    assert parts.grad is not None and parts.grad[[0, 2]].isfinite().all()


def test_restriction_normalisers() -> None:
    matched = torch.tensor([6.0, 0.0])
    args = {"num_images": torch.tensor(4.0), "num_matched": matched}
    assert restriction_normaliser("released", num_processes=1, **args).tolist() == [24, 4]
    assert restriction_normaliser("mean", num_processes=1, **args).tolist() == [6, 1]
    assert restriction_normaliser("paper", num_processes=1, **args).tolist() == [1, 1]
    # Gradients are averaged over two processes; with the sum of their counts the result must not change.
    for norm in ("released", "mean", "paper"):
        one = restriction_normaliser(norm, num_processes=1, **args)
        torch.testing.assert_close(restriction_normaliser(norm, num_processes=2, **args) * 2, one)


def test_distillation_equals_loops_and_spares_the_teacher() -> None:
    student = torch.randn(3, 4, dtype=F64, requires_grad=True)
    teacher = torch.randn(3, 4, dtype=F64, requires_grad=True)
    pairs = zip(student.flatten().tolist(), teacher.flatten().tolist(), strict=True)
    wanted = sum((a - b) ** 2 for a, b in pairs) / 12
    assert float(distillation_loss(student, teacher).detach()) == pytest.approx(wanted)
    distillation_loss(student, teacher).backward()
    assert teacher.grad is None
    assert gradcheck(lambda s: distillation_loss(s, teacher.detach()), (student,))
    with pytest.raises(ValueError, match="one shape"):
        distillation_loss(student, teacher[:2])
