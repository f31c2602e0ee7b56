"""The whole objective: names, weights, normalisers, options, and batches that lack something."""

from __future__ import annotations

import pytest
import torch
from criterion_samples import leaves, make_criterion, random_output, random_targets

from partglee.config import get_cfg
from partglee.criterion import LossWeights, build_criterion, summarise, total
from partglee.criterion.losses import restriction_loss
from partglee.criterion.matcher import Matcher
from partglee.criterion.stack import batch_targets, layer_names, stack_predictions
from partglee.structures import HierarchicalTargets, LevelTargets, ModelOutput
from partglee.structures.supervision import LevelSupervision, Supervision

SETS = ["initial", "layer1", "final", "proposals"]


def assert_finite_gradients(output: ModelOutput, losses: dict[str, torch.Tensor]) -> None:
    total(losses.values()).backward()
    for tensors in leaves(output).values():
        assert all(t.grad is None or t.grad.isfinite().all() for t in tensors)


def test_every_level_term_and_prediction_set() -> None:
    source = torch.tensor([[0, 1, -2, -2], [0, -1, -2, -1]])
    output = random_output(noised=(source, source))
    targets = [random_targets(2, 3), random_targets(1, 1)]
    losses = make_criterion()(output, targets)
    terms = ["class", "box_l1", "box_giou", "mask_bce", "mask_dice"]
    wanted = {f"{level}/{term}/{name}" for level in ("object", "part") for term in terms for name in SETS}
    wanted |= {f"part/restriction/{name}" for name in SETS}
    wanted |= {
        f"{level}/{term}/denoising.{name}" for level in ("object", "part") for term in terms[:3] for name in SETS[:3]
    }
    assert set(losses) == wanted
    assert all(loss.ndim == 0 and loss.isfinite() for loss in losses.values())
    summary = summarise(losses)
    assert {k for k in summary if k.startswith("part/")} == {
        *(f"part/{t}" for t in (*terms, "restriction")), *(f"part/denoising_{t}" for t in terms[:3])
    }  # fmt: skip
    torch.testing.assert_close(summary["total"], total(losses.values()).detach())
    total(losses.values()).backward()
    for tensors in leaves(output).values():
        assert all(t.grad is not None and t.grad.isfinite().all() for t in tensors)
    assert output.mask_features.grad is not None


def test_weights_scale_and_zero_drops() -> None:
    output, targets = random_output(), [random_targets(2, 3, masks=False)] * 2
    plain = make_criterion(weights=LossWeights(1, 1, 1, 1, 1, 1, 1))(output, targets)
    weighted = make_criterion(weights=LossWeights(box_l1=7, restriction=0))(output, targets)
    for name, loss in weighted.items():
        factor = {"class": 4, "box_l1": 7, "box_giou": 2}[name.split("/")[1]]
        torch.testing.assert_close(loss, factor * plain[name])
    assert len(plain) == len(weighted) + len(SETS)


@pytest.mark.parametrize("norm", ["released", "paper", "mean"])
def test_restriction_against_its_formula(norm: str) -> None:
    output = random_output()
    targets = [random_targets(2, 3, masks=False), random_targets(1, 2, masks=False)]
    losses = make_criterion(restriction_norm=norm, weights=LossWeights(restriction=1))(output, targets)
    assert output.parts is not None and output.parent is not None and output.parts.proposals is not None
    stack = stack_predictions((*output.parts.layers, output.parts.proposals), (*layer_names(3), "proposals"))
    batch = batch_targets([t.parts for t in targets], num_names=4, device=torch.device("cpu"))
    matches = Matcher().start(stack, batch).result()
    for layer, name in enumerate(SETS):
        summed = 0.0
        for a, b, q, _ in zip(*(column.tolist() for column in matches[:4]), strict=True):
            if a == layer:
                parent = output.objects.layers[-1].boxes[b, output.parent[b, q]]
                summed += float(restriction_loss(stack.boxes[a, b, q], parent).detach())
        divisor = {"released": 2 * 5, "paper": 1, "mean": 5}[norm]
        assert float(losses[f"part/restriction/{name}"].detach()) == pytest.approx(summed / divisor)


def test_restriction_reaches_the_object_box() -> None:
    output, targets = random_output(1), [random_targets(0, 2, masks=False)]
    losses = make_criterion()(output, targets)
    assert not any(name.startswith("object") for name in losses)
    torch.stack([v for k, v in losses.items() if "restriction" in k]).sum().backward()
    grad = output.objects.layers[-1].boxes.grad
    assert grad is not None and grad.abs().sum() > 0


def test_within_parent_matches_only_queries_of_the_matched_parent() -> None:
    output = random_output(1, queries=8, parsed=8)
    targets = [random_targets(3, 6, masks=False, parents=True)]
    criterion = make_criterion(part_matching="within_parent")
    seen = []
    level_losses = criterion.level.losses

    def spy(predictions, batch, matches, **options):  # type: ignore[no-untyped-def]
        seen.append(matches)
        return level_losses(predictions, batch, matches, **options)

    criterion.level.losses = spy  # type: ignore[method-assign]
    criterion(output, targets)
    objects, parts = seen
    final = objects.layer == 2
    owner = dict(zip(objects.target[final].tolist(), objects.query[final].tolist(), strict=True))
    assert output.parent is not None
    assert len(parts.query) == 4 * 6
    for query, target in zip(parts.query.tolist(), parts.target.tolist(), strict=True):
        assert int(output.parent[0, query]) == owner[int(targets[0].part_parent[target])]


def test_within_parent_leaves_parts_of_unparsed_objects_and_surplus_parts_unmatched() -> None:
    output = random_output(1, queries=8, parsed=8, per_object=2)
    targets = [random_targets(1, 5, masks=False, parents=True)]  # five parts of one object, two queries
    criterion = make_criterion(part_matching="within_parent")
    losses = criterion(output, targets)
    assert_finite_gradients(output, losses)
    assert output.parts is not None and output.parts.layers[-1].boxes.grad is not None
    assert int((output.parts.layers[-1].boxes.grad.abs().sum(-1) > 0).sum()) == 2
    objects = stack_predictions(output.objects.layers[-1:], ["final"])
    batch = batch_targets([targets[0].objects], num_names=3, device=torch.device("cpu"))
    owner = Matcher(num_points=64).start(objects, batch).result().query
    nowhere = output._replace(parent=torch.zeros_like(output.parent) + (owner + 1) % 8)
    assert float(criterion(nowhere, targets)["part/box_l1/final"].detach()) == 0


def test_within_parent_equals_global_where_no_parent_is_known() -> None:
    output, targets = random_output(), [random_targets(2, 3, masks=False), random_targets(0, 2, masks=False)]
    released = make_criterion()(output, targets)
    within = make_criterion(part_matching="within_parent")(output, targets)
    assert released.keys() == within.keys()
    for name, loss in released.items():
        torch.testing.assert_close(loss, within[name])


@pytest.mark.parametrize(("objects", "parts"), [(2, 0), (0, 3)])
def test_one_level_alone(objects: int, parts: int) -> None:
    """The other level has no terms, so its own tensors get no gradient at all."""
    output = random_output()
    losses = make_criterion()(output, [random_targets(objects, parts), random_targets(objects, 0)])
    annotated, other = ("object", "part") if objects else ("part", "object")
    assert all(name.startswith(annotated) for name in losses)
    assert_finite_gradients(output, losses)
    tensors = leaves(output)
    assert all(t.grad is not None for t in tensors[annotated])
    restricted = output.objects.layers[-1].boxes
    assert all(t.grad is None for t in tensors[other] if t is not restricted)


def test_a_vocabulary_without_parts() -> None:
    output = random_output(names=(3, 0))
    losses = make_criterion()(output, [random_targets(2, 0)] * 2)
    assert losses and all(name.startswith("object") for name in losses)
    with pytest.raises(ValueError, match="does the vocabulary have part names"):
        make_criterion()(output, [random_targets(2, 1)] * 2)


def test_empty_images_are_negatives_when_annotated_and_nothing_otherwise() -> None:
    output = random_output()
    empty = [HierarchicalTargets(LevelTargets.empty())] * 2
    assert make_criterion()(output, empty) == {}
    labelled = Supervision(LevelSupervision(background=(True, True)), LevelSupervision(background=(False, False)))
    losses = make_criterion()(output, empty, labelled)
    assert set(losses) == {f"object/class/{name}" for name in SETS}
    assert_finite_gradients(output, losses)
    one_empty = [random_targets(2, 1), empty[0]]
    losses = make_criterion()(output, one_empty)
    total(losses.values()).backward()
    grad = output.objects.layers[-1].logits.grad
    assert grad is not None and bool((grad[1] > 0).all())


def test_an_unlabelled_background_does_not_punish_unmatched_queries() -> None:
    output, targets = random_output(1), [random_targets(2, 2, masks=False)]
    nothing = LevelSupervision(background=(False,))
    total(make_criterion()(output, targets, Supervision(nothing, nothing)).values()).backward()
    logits = output.objects.layers[-1].logits
    assert logits.grad is not None
    assert int((logits.grad.abs().sum(-1) > 0).sum()) == 2  # the matched ones


def test_contrastive_negatives_are_punished_where_their_targets_place_was_looked_at() -> None:
    """Like unmatched queries on an unlabelled background; wherever they end up where some regions are labelled."""
    source = torch.tensor([[0, 1, -2, -2], [0, -1, -2, -1]])
    region = torch.tensor([[0.5, 0.5, 0.01, 0.01]])  # no predicted box lies in it
    level = LevelSupervision(background=(True, False), labelled=(region, None))
    output, targets = random_output(noised=(source, source)), [random_targets(2, 3), random_targets(1, 1)]
    total(make_criterion()(output, targets, Supervision(level, level)).values()).backward()
    for decoder in (output.objects, output.parts):
        assert decoder is not None
        for layer in decoder.denoising:
            assert layer.logits.grad is not None
            punished = (layer.logits.grad != 0).any(-1)
            assert punished.tolist() == [[True] * 4, [True, False, False, False]]


def test_only_queries_inside_a_labelled_region_are_punished() -> None:
    output, targets = random_output(1), [random_targets(2, 2, masks=False)]
    half = torch.tensor([[0.25, 0.5, 0.5, 1.0]])  # the left half
    looked_at = LevelSupervision(background=(True,), labelled=(half,))
    total(make_criterion()(output, targets, Supervision(looked_at, looked_at)).values()).backward()
    outcomes = set()
    for level in (output.objects, output.parts):
        assert level is not None
        for layer in level.layers:  # every prediction set is judged by its own boxes
            x, _, width, _ = layer.boxes[0].detach().unbind(-1)
            left, right = (x - width / 2).clamp(0, 1), (x + width / 2).clamp(0, 1)
            inside = (right.clamp(max=0.5) - left.clamp(max=0.5)) / (right - left) >= 0.5
            grad = layer.logits.grad
            assert grad is not None
            punished = grad[0].abs().sum(-1) > 0
            assert bool(punished[inside].all()) and int(punished[~inside].sum()) <= 2, "only matches outside"
            outcomes |= set(inside.tolist())
    assert outcomes == {True, False}
    with pytest.raises(ValueError, match="object labelled must hold 1 sets of regions, got 2"):
        make_criterion()(output, targets, Supervision(LevelSupervision(labelled=(half, half))))


def test_names_that_nobody_looked_for_are_not_punished() -> None:
    output, targets = random_output(1), [random_targets(2, 2, masks=False)]
    targets[0].objects.labels[:] = 0
    looked_for = LevelSupervision(negatives=torch.tensor([[False, True, False]]))
    total(make_criterion()(output, targets, Supervision(objects=looked_for)).values()).backward()
    grad = output.objects.layers[-1].logits.grad
    assert grad is not None
    assert bool((grad[..., 1] > 0).all()), "a negative for every query"
    assert int((grad[..., 0] != 0).sum()) == 2, "annotated, but not exhaustively: only its matches"
    assert bool((grad[..., 2] == 0).all()), "not looked for"


def test_inactive_names_are_not_punished() -> None:
    output, targets = random_output(1), [random_targets(2, 0, masks=False)]
    targets[0].objects.labels[:] = 0
    text = output.text._replace(active=torch.tensor([[True, True, False]]))
    total(make_criterion()(output._replace(text=text), targets).values()).backward()
    grad = output.objects.layers[-1].logits.grad
    assert grad is not None and bool((grad[..., 2] == 0).all()) and bool((grad[..., :2] != 0).all())


@pytest.mark.parametrize("names", [(1, 1), (1, 4)])
def test_one_name(names: tuple[int, int]) -> None:
    output = random_output(names=names)
    assert_finite_gradients(output, make_criterion()(output, [random_targets(2, 3, names=names)] * 2))


def test_more_targets_than_queries() -> None:
    output = random_output(queries=3, parsed=2, per_object=1)
    losses = make_criterion()(output, [random_targets(7, 9), random_targets(1, 0)])
    assert_finite_gradients(output, losses)


def test_no_queries() -> None:
    output = random_output(queries=0, parsed=0)
    losses = make_criterion()(output, [random_targets(2, 2), random_targets(0, 0)])
    assert all(float(loss.detach()) == 0 for loss in losses.values())


def test_images_with_and_without_masks() -> None:
    output = random_output()
    losses = make_criterion()(output, [random_targets(2, 2), random_targets(2, 2, masks=False)])
    assert "object/mask_bce/final" in losses
    assert_finite_gradients(output, losses)
    without = make_criterion()(output, [random_targets(2, 2, masks=False)] * 2)
    assert not any("mask" in name for name in without)


def test_nan_predictions_give_nan_losses_not_a_crash() -> None:
    output = random_output()
    with torch.no_grad():
        output.objects.layers[-1].logits.fill_(float("nan"))
        output.mask_features.fill_(float("nan"))
    losses = make_criterion()(output, [random_targets(2, 3)] * 2)
    assert losses["object/class/final"].isnan()
    assert losses["object/class/initial"].isfinite()


def test_half_precision_outputs() -> None:
    output = random_output()
    half = torch.utils._pytree.tree_map_only(
        torch.Tensor, lambda t: t.detach().bfloat16().requires_grad_() if t.is_floating_point() else t, output
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = make_criterion()(half, [random_targets(2, 3)] * 2)
    assert all(loss.dtype != torch.bfloat16 and loss.isfinite() for loss in losses.values())
    assert_finite_gradients(half, losses)


def test_text_distillation_joins_the_sum() -> None:
    output = random_output()
    student = torch.randn(5, 7, requires_grad=True)
    text = output.text._replace(distill=(student, student.detach() + 0.5))
    losses = make_criterion()(output._replace(text=text), [random_targets(2, 3)] * 2)
    assert float(losses["text/distillation"].detach()) == pytest.approx(8 * 0.25)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="part_matching must be one of global, within_parent, got 'inside'"):
        make_criterion(part_matching="inside")
    with pytest.raises(ValueError, match="restriction_norm"):
        make_criterion(restriction_norm="none")
    output = random_output()
    with pytest.raises(ValueError, match="expected targets of 2 images, got 1"):
        make_criterion()(output, [random_targets(1, 1)])
    with pytest.raises(ValueError, match=r"object negatives must be \(2, 3\)"):
        negatives = LevelSupervision(negatives=torch.ones(2, 5, dtype=torch.bool))
        make_criterion()(output, [random_targets(1, 1)] * 2, Supervision(objects=negatives))
    with pytest.raises(ValueError, match="part background must hold 2 flags"):
        background = LevelSupervision(background=(True,))
        make_criterion()(output, [random_targets(1, 1)] * 2, Supervision(parts=background))
    with pytest.raises(ValueError, match="no losses"):
        total([])


def test_defaults_are_the_released_numbers() -> None:
    criterion = build_criterion(get_cfg())
    assert criterion.weights == LossWeights()
    assert (criterion.part_matching, criterion.restriction_norm) == ("global", "released")
    assert vars(criterion.matcher) == vars(Matcher())
    assert criterion.level.sampling.num_points == 12544
