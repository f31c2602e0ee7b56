"""One level: every term of every prediction set against loops over queries, names and pairs."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from criterion_samples import DTYPE, random_decoder, random_level

from partglee.criterion import Matcher, SetCriterion
from partglee.criterion.losses import giou_loss
from partglee.criterion.matcher import Matches
from partglee.criterion.stack import PredictionStack, TargetBatch, batch_targets, layer_names, stack_predictions
from partglee.structures import LevelSupervision, LevelTargets

CPU = torch.device("cpu")


def prepare(counts: list[int]) -> tuple[PredictionStack, TargetBatch, Matches, list[LevelTargets]]:
    decoder = random_decoder(len(counts), 6, 3)
    stack = stack_predictions(decoder.layers, layer_names(3))
    targets = [random_level(n, 3, masks=False) for n in counts]
    batch = batch_targets(targets, num_names=3, device=CPU)
    return stack, batch, Matcher().start(stack, batch).result(), targets


def focal_of(x: float, positive: bool) -> float:
    p = 1 / (1 + math.exp(-x))
    return -0.25 * (1 - p) ** 2 * math.log(p) if positive else -0.75 * p**2 * math.log(1 - p)


@pytest.mark.parametrize("background", [None, [True, False, True]])
@pytest.mark.parametrize("federated", [False, True])
def test_matched_losses_equal_loops(background: list[bool] | None, federated: bool) -> None:
    stack, batch, matches, targets = prepare([2, 3, 0])
    negatives = torch.rand(3, 3) < 0.5 if federated else None
    losses = SetCriterion().losses(
        stack, batch, matches, normaliser=torch.tensor(5.0), supervision=LevelSupervision(negatives, background)
    )
    pairs = {(a, b, q): t for a, b, q, t in zip(*(column.tolist() for column in matches[:4]), strict=True)}
    assert len(pairs) == 15
    for layer in range(3):
        classes = l1 = giou = 0.0
        for image in range(3):
            for query in range(6):
                target = pairs.get((layer, image, query))
                label = None if target is None else int(targets[image].labels[target])
                for name in range(3):
                    looked_for = negatives is None or bool(negatives[image, name])
                    punished = target is not None or background is None or background[image]
                    if name == label or (looked_for and punished):
                        classes += focal_of(float(stack.logits[layer, image, query, name].detach()), name == label)
                if target is not None:
                    box, wanted = stack.boxes[layer, image, query].detach(), targets[image].boxes[target]
                    l1 += float((box - wanted).abs().sum())
                    giou += float(giou_loss(box[None], wanted[None]))
        assert float(losses["class"][layer].detach()) == pytest.approx(classes / 5)
        assert float(losses["box_l1"][layer].detach()) == pytest.approx(l1 / 5)
        assert float(losses["box_giou"][layer].detach()) == pytest.approx(giou / 5)
    assert set(losses) == {"class", "box_l1", "box_giou"}


@pytest.mark.parametrize("background", [None, [True, True, False, True], [False, True, True, False]])
def test_denoising_losses_equal_loops(background: list[bool] | None) -> None:
    """Also of images without targets, in the middle and at the end."""
    targets = [random_level(count, 3, masks=False) for count in (2, 0, 1, 0)]
    batch = batch_targets(targets, num_names=3, device=CPU)
    source = torch.tensor([[0, 1, -2, -2], [-1, -1, -1, -1], [0, -1, -2, -1], [-1, -1, -1, -1]])
    stack = stack_predictions(random_decoder(4, 4, 3, noised=source).denoising, layer_names(3))
    negatives = torch.tensor([[True, True, False], [True, True, True], [False, True, True], [True, True, True]])
    losses = SetCriterion().denoising_losses(
        stack, source, batch, normaliser=torch.tensor(3.0), supervision=LevelSupervision(negatives, background)
    )
    for layer in range(3):
        classes = l1 = giou = 0.0
        for image in range(4):
            for query in range(4):
                row = int(source[image, query])
                if row == -1 or (row == -2 and background is not None and not background[image]):
                    continue
                label = int(targets[image].labels[row]) if row >= 0 else None
                for name in range(3):
                    if name == label or negatives[image, name]:
                        classes += focal_of(float(stack.logits[layer, image, query, name].detach()), name == label)
                if row >= 0:
                    box, wanted = stack.boxes[layer, image, query].detach(), targets[image].boxes[row]
                    l1 += float((box - wanted).abs().sum())
                    giou += float(giou_loss(box[None], wanted[None]))
        assert float(losses["class"][layer].detach()) == pytest.approx(classes / 3)
        assert float(losses["box_l1"][layer].detach()) == pytest.approx(l1 / 3)
        assert float(losses["box_giou"][layer].detach()) == pytest.approx(giou / 3)


def test_mask_losses_go_to_the_right_layer_and_image() -> None:
    """A perfect mask in one prediction set alone has no loss there; images without masks do not take part."""
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    masks[0, :, :32] = masks[1, :, 32:] = True
    features = torch.where(torch.arange(16) < 8, 1.0, -1.0).to(DTYPE).expand(2, 1, 16, 16)
    boxes = torch.tensor([[0.25, 0.5, 0.5, 1.0], [0.75, 0.5, 0.5, 1.0]], dtype=DTYPE)
    targets = [LevelTargets(torch.tensor([0, 0]), boxes, masks), LevelTargets(torch.tensor([0, 0]), boxes)]
    embed = torch.tensor([[[40.0], [-40.0]], [[-40.0], [40.0]]], dtype=DTYPE)  # right, then wrong
    stack = PredictionStack(
        names=("initial", "final"),
        logits=torch.zeros(2, 2, 2, 1, dtype=DTYPE),
        boxes=boxes.expand(2, 2, 2, 4),
        mask_embed=embed[:, None].expand(2, 2, 2, 1),
    )
    batch = batch_targets(targets, num_names=1, device=CPU)
    matches = Matcher().start(stack, batch).result()
    losses = SetCriterion(num_points=500, importance=0.0).losses(
        stack, batch, matches, normaliser=torch.tensor(1.0), mask_features=features
    )
    good, bad = losses["mask_bce"].tolist()
    assert good < 2 and bad > 70  # points between two pixels are undecided
    good, bad = losses["mask_dice"].tolist()
    assert good < 0.1 and bad > 1.8


@pytest.mark.parametrize(
    ("oversample", "importance", "bce"), [(8.0, 1.0, 1.0), (8.0, 0.5, 0.625), (1.0, 1.0, 0.25), (8.0, 0.0, 0.25)]
)
def test_where_the_points_of_a_mask_lie(oversample: float, importance: float, bce: float) -> None:
    """A quarter of the mask is undecided, the rest is right: the loss says which share of the points lies there."""
    features = torch.where(torch.arange(64) < 48, 8.0, 0.0).to(DTYPE).expand(1, 1, 64, 64)
    target = LevelTargets(torch.tensor([0]), torch.tensor([[0.375, 0.5, 0.75, 1.0]], dtype=DTYPE))
    target = replace(target, masks=(torch.arange(256) < 192).expand(1, 256, 256))
    one = torch.ones(1, 1, 1, 1, dtype=DTYPE)
    stack = PredictionStack(("final",), torch.zeros_like(one), target.boxes.expand(1, 1, 1, 4), one)
    batch = batch_targets([target], num_names=1, device=CPU)
    criterion = SetCriterion(num_points=4000, oversample=oversample, importance=importance)
    matches = Matcher().start(stack, batch).result()
    losses = criterion.losses(stack, batch, matches, normaliser=torch.tensor(1.0), mask_features=features)
    assert float(losses["mask_bce"]) / math.log(2) == pytest.approx(bce, abs=0.06)


@pytest.mark.parametrize(("near", "low", "high"), [(0.0, 0.0, 0.05), (1.0, 0.3, 0.6)])
def test_a_mask_of_a_few_pixels_is_seen_by_points_near_its_box(near: float, low: float, high: float) -> None:
    """4 x 4 of 256 x 256 pixels, predicted to be nothing: 1 / 1.5^2 of the area around the box is wrong."""
    features = torch.full((1, 1, 64, 64), -1.0, dtype=DTYPE)
    mask = torch.zeros(1, 256, 256, dtype=torch.bool)
    mask[0, 100:104, 200:204] = True
    box = torch.tensor([[202 / 256, 102 / 256, 4 / 256, 4 / 256]], dtype=DTYPE)
    batch = batch_targets([LevelTargets(torch.tensor([0]), box, mask)], num_names=1, device=CPU)
    one = torch.ones(1, 1, 1, 1, dtype=DTYPE)
    stack = PredictionStack(("final",), torch.zeros_like(one), box.expand(1, 1, 1, 4), one)
    matches = Matcher(near=near).start(stack, batch).result()
    criterion = SetCriterion(num_points=2000, oversample=1.0, importance=0.0, near=near)
    losses = criterion.losses(stack, batch, matches, normaliser=torch.tensor(1.0), mask_features=features)
    # A wrong point costs log(1 + e), a right one log(1 + 1 / e).
    wrong = float(losses["mask_bce"]) - math.log1p(math.exp(-1))
    assert low <= wrong < high


def test_gradient_of_a_level() -> None:
    stack, batch, matches, _ = prepare([2, 1])

    def loss(logits: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        values = SetCriterion().losses(
            stack._replace(logits=logits, boxes=boxes), batch, matches, normaliser=torch.tensor(3.0, dtype=DTYPE)
        )
        return torch.stack([v.sum() for v in values.values()]).sum()

    inputs = (stack.logits.detach().requires_grad_(), stack.boxes.detach().requires_grad_())
    assert torch.autograd.gradcheck(loss, inputs, fast_mode=True)


def test_gradient_of_denoising() -> None:
    batch = batch_targets([random_level(2, 3, masks=False)], num_names=3, device=CPU)
    source = torch.tensor([[0, 1, -2, -1]])
    stack = stack_predictions(random_decoder(1, 4, 3, noised=source).denoising, layer_names(3))

    def loss(logits: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        values = SetCriterion().denoising_losses(
            stack._replace(logits=logits, boxes=boxes), source, batch, normaliser=torch.tensor(2.0, dtype=DTYPE)
        )
        return torch.stack([v.sum() for v in values.values()]).sum()

    inputs = (stack.logits.detach().requires_grad_(), stack.boxes.detach().requires_grad_())
    assert torch.autograd.gradcheck(loss, inputs, fast_mode=True)


@pytest.mark.parametrize("known", [[True, False, True], [False, False, False]])
def test_the_mask_of_an_instance_that_has_a_box_alone_says_nothing(known: list[bool]) -> None:
    """Whatever it holds, pairs and losses are the same; the masks of the others count as before."""
    decoder = random_decoder(1, 6, 3)
    stack = stack_predictions(decoder.layers, layer_names(3))
    features = torch.randn(1, decoder.layers[0].mask_embed.shape[-1], 8, 8, dtype=DTYPE)  # type: ignore[union-attr]
    level = random_level(3, 3)
    assert level.masks is not None
    told = []
    for content in (False, True):
        masks = level.masks.clone()
        masks[~torch.tensor(known)] = content
        batch = batch_targets([replace(level, masks=masks, with_mask=torch.tensor(known))], num_names=3, device=CPU)
        torch.manual_seed(1)
        matches = Matcher(num_points=50).start(stack, batch, mask_features=features).result()
        losses = SetCriterion(num_points=40, importance=0.0).losses(
            stack, batch, matches, normaliser=torch.tensor(1.0), mask_features=features
        )
        told.append((matches, losses))
    (one, terms), (other, others) = told
    assert torch.equal(one.query, other.query) and torch.equal(one.target, other.target)
    assert all(torch.equal(terms[term], others[term]) for term in terms)
    # Against a batch of the instances that have a mask, with the same pairs.
    kept = torch.tensor(known)
    pairs = kept[one.target]
    if not pairs.any():
        assert terms["mask_bce"].tolist() == terms["mask_dice"].tolist() == [0, 0, 0]
        return
    fewer = batch_targets(
        [LevelTargets(level.labels[kept], level.boxes[kept], level.masks[kept])], num_names=3, device=CPU
    )
    place = kept.cumsum(0) - 1
    matches = one._replace(
        layer=one.layer[pairs], image=one.image[pairs], query=one.query[pairs], target=place[one.target[pairs]],
        counts=(int(pairs.sum()),),
    )  # fmt: skip
    options = {"normaliser": torch.tensor(1.0), "mask_features": features}
    whole = batch_targets([replace(level, with_mask=kept)], num_names=3, device=CPU)
    torch.manual_seed(2)
    ours = SetCriterion(num_points=40).losses(stack, whole, one, **options)  # type: ignore[arg-type]
    torch.manual_seed(2)
    theirs = SetCriterion(num_points=40).losses(stack, fewer, matches, **options)  # type: ignore[arg-type]
    for term in ("mask_bce", "mask_dice"):
        torch.testing.assert_close(ours[term], theirs[term])


def test_which_instances_have_masks_is_checked() -> None:
    level = random_level(2, 3)
    with pytest.raises(ValueError, match=r"with_mask must be \(2,\) bool and goes with masks, got \(3,\)"):
        replace(level, with_mask=torch.ones(3, dtype=torch.bool))
    with pytest.raises(ValueError, match="without masks"):
        replace(level, masks=None, with_mask=torch.ones(2, dtype=torch.bool))
