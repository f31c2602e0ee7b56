"""What a dense teacher teaches the memory: the loss by loops, its gradient, and its place among the others."""

from __future__ import annotations

import math

import pytest
import torch
from criterion_samples import make_criterion, random_output, random_targets
from torch import Tensor

from partglee.criterion import LossWeights, summarise
from partglee.criterion.dense import dense_loss, on_grids_of, taught
from partglee.structures import DenseScores, ModelOutput


def slow_loss(logits: list[Tensor], scores: DenseScores) -> float:
    """One place and name at a time; grids are a whole multiple of ours here."""
    total = 0.0
    for ours, theirs in zip(logits, scores.maps, strict=False):
        images, _, height, width = ours.shape
        factor = theirs.shape[-1] // width
        for image in range(images):
            for name, column in enumerate(scores.columns.tolist()):
                for y in range(height):
                    for x in range(width):
                        rows, cells = slice(y * factor, (y + 1) * factor), slice(x * factor, (x + 1) * factor)
                        wanted = float(theirs[image, name, rows, cells].max())
                        said = 1 / (1 + math.exp(-float(ours[image, column, y, x])))
                        entropy = wanted * math.log(said) + (1 - wanted) * math.log(1 - said)
                        total -= abs(wanted - said) ** 2 * entropy
    return total


def lesson(*sizes: tuple[int, int], columns: tuple[int, ...] = (2, 0)) -> DenseScores:
    return DenseScores(torch.tensor(columns), tuple(torch.rand(2, len(columns), *size) for size in sizes))


def test_the_loss_by_loops() -> None:
    torch.manual_seed(0)
    logits = [torch.randn(2, 3, 4, 5).double(), torch.randn(2, 3, 2, 3).double()]
    scores = lesson((8, 10), (2, 3))
    found = dense_loss(logits, on_grids_of(logits, scores))
    assert float(found) == pytest.approx(slow_loss(logits, scores), rel=1e-6)


def test_further_levels_are_not_taught() -> None:
    logits = [torch.randn(2, 3, 4, 4), torch.randn(2, 3, 2, 2, requires_grad=True)]
    scores = on_grids_of(logits, lesson((4, 4)))
    assert float(dense_loss(logits, scores)) == pytest.approx(slow_loss(logits, scores), rel=1e-5)
    assert not dense_loss(logits, scores).requires_grad
    more = lesson((4, 4), (2, 2), (1, 1))
    assert [one.shape[-1] for one in on_grids_of(logits[:1], more).maps] == [4]
    torch.testing.assert_close(taught(on_grids_of(logits[:1], more)), more.maps[0].amax(1).sum())


def test_finer_grids_do_not_weigh_more() -> None:
    """What the loss is divided by is counted on the grid that it is summed on."""
    scores = DenseScores(torch.tensor([0]), (torch.full((1, 1, 52, 52), 0.4),))
    found = []
    for side in (16, 32, 64, 128):
        logits = [torch.zeros(1, 1, side, side)]
        here = on_grids_of(logits, scores)
        found.append(float(dense_loss(logits, here) / taught(here)))
    assert found == pytest.approx([found[0]] * 4)


def test_other_names_and_a_teacher_who_is_right_teach_nothing() -> None:
    logits = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    dense_loss([logits], lesson((4, 4), columns=(1,))).backward()
    assert logits.grad is not None and logits.grad[:, 1].abs().min() > 0 and not logits.grad[:, [0, 2]].any()
    agreed = DenseScores(torch.arange(3), (logits.detach().sigmoid(),))
    assert float(dense_loss([logits.detach()], agreed)) == pytest.approx(0, abs=1e-9)


def test_its_gradient() -> None:
    logits = torch.randn(2, 3, 3, 2, dtype=torch.float64, requires_grad=True)
    scores = DenseScores(torch.tensor([2, 1]), (torch.rand(2, 2, 5, 4),))

    # Inputs are widened no further than float32, so a double stays one.
    def loss(x: Tensor) -> Tensor:
        return dense_loss([x], on_grids_of([x], scores)).double()

    assert torch.autograd.gradcheck(loss, logits, eps=1e-3, atol=1e-2)


def output_with(dense: tuple[Tensor, ...] | None) -> ModelOutput:
    output = random_output()
    return output._replace(objects=output.objects._replace(dense=dense))


def test_its_place_among_the_losses() -> None:
    torch.manual_seed(0)
    logits, scores = torch.randn(2, 3, 4, 4), lesson((8, 8), (4, 4))
    targets = [random_targets(2, 3), random_targets(1, 0)]
    losses = make_criterion(weights=LossWeights(dense=3))(output_with((logits,)), targets, None, scores)
    pooled = torch.nn.functional.max_pool2d(scores.maps[0], 2)
    wanted = 3 * slow_loss([logits], scores) / float(pooled.amax(1).sum())
    assert float(losses["object/dense/memory"]) == pytest.approx(wanted, rel=1e-5)
    assert "object/dense" in summarise(losses)
    silent = make_criterion(weights=LossWeights(dense=0))(output_with((logits,)), targets, None, scores)
    assert "object/dense/memory" not in silent
    assert "object/dense/memory" not in make_criterion()(output_with((logits,)), targets)


def test_where_the_teacher_sees_nothing_the_loss_is_not_divided_by_it() -> None:
    scores = DenseScores(torch.tensor([0]), (torch.zeros(2, 1, 4, 4),))
    losses = make_criterion(weights=LossWeights(dense=1))(
        output_with((torch.zeros(2, 3, 4, 4),)), [random_targets(1, 0), random_targets(0, 0)], None, scores
    )
    assert float(losses["object/dense/memory"]) == pytest.approx(2 * 16 * 0.25 * math.log(2))


def test_a_model_without_the_head() -> None:
    with pytest.raises(ValueError, match=r"in training mode that was built with MODEL\.OBJECT_DECODER\.DENSE_HEAD"):
        make_criterion()(output_with(None), [random_targets(1, 0)] * 2, None, lesson((4, 4)))
