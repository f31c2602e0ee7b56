"""Query selection: anchors by hand, which tokens are kept, and where gradients go."""

from __future__ import annotations

import torch

from partglee.modeling.heads import PredictionHeads
from partglee.modeling.object_decoder import QuerySelection
from partglee.structures import PixelFeatures

LEVELS = ((2, 3), (8, 4))  # coarse to fine


def make(num_queries: int = 5) -> tuple[QuerySelection, PredictionHeads, PixelFeatures]:
    torch.manual_seed(0)
    selection = QuerySelection(embed_dim=8, num_queries=num_queries)
    heads = PredictionHeads(embed_dim=8)
    torch.nn.init.normal_(heads.box_mlp.layers[-1].weight)
    memory = torch.randn(2, 2 * 3 + 8 * 4, 8)
    return selection, heads, PixelFeatures(memory, LEVELS, torch.zeros(2, 8, 16, 8))


def test_anchors_by_hand() -> None:
    """Pixel centres; sides double in memory order, so the finest level has the largest."""
    logits, valid = make()[0].anchors(LEVELS, torch.device("cpu"))
    boxes = logits.sigmoid()[0]
    torch.testing.assert_close(boxes[0], torch.tensor([0.5 / 3, 0.25, 0.05, 0.05]))
    torch.testing.assert_close(boxes[6 + 4 * 5 + 2], torch.tensor([2.5 / 4, 5.5 / 8, 0.1, 0.1]))
    assert valid.all()


def test_anchors_outside_are_invalid() -> None:
    logits, valid = make()[0].anchors(((1, 200),), torch.device("cpu"))
    assert not valid[0, :2].any() and valid[0, 2:198].all()  # centres below 0.01
    assert torch.isinf(logits[0, 0]).all()
    deep, coarse = make()[0].anchors(((1, 1),) * 6, torch.device("cpu"))
    assert coarse[0, :, 0].tolist() == [True] * 5 + [False] and torch.isinf(deep[0, 5]).all()  # 0.05 * 2^5 > 0.99


def test_best_tokens_are_kept_in_order() -> None:
    selection, heads, pixels = make()
    names = torch.randn(3, 8)
    chosen = selection(pixels, heads, names)
    for image in range(2):
        tokens = selection.norm(selection.proj(pixels.memory[image]))
        scores = (tokens @ heads.class_proj @ names.T).max(dim=1).values.tolist()
        best = sorted(range(len(scores)), key=lambda i: -scores[i])[:5]
        torch.testing.assert_close(chosen.content[image], tokens[best])
        anchors = selection.anchors(LEVELS, torch.device("cpu"))[0][0, best]
        torch.testing.assert_close(chosen.boxes[image], (heads.box_mlp(tokens[best]) + anchors).sigmoid())


def test_names_that_are_not_active_do_not_count() -> None:
    selection, heads, pixels = make()
    names = torch.randn(2, 8)
    active = torch.tensor([[True, False], [False, True]])
    chosen = selection(pixels, heads, names, active)
    for image in range(2):
        alone = selection(pixels, heads, names[image : image + 1])
        torch.testing.assert_close(chosen.content[image], alone.content[image])


def test_names_may_differ_between_images() -> None:
    selection, heads, pixels = make()
    names = torch.randn(2, 1, 8)
    chosen = selection(pixels, heads, names)
    torch.testing.assert_close(chosen.content[1], selection(pixels, heads, names[1]).content[1])


def test_fewer_tokens_than_queries() -> None:
    selection, heads, pixels = make(num_queries=100)
    assert selection(pixels, heads, torch.randn(2, 8)).content.shape == (2, 38, 8)


def test_gradients_reach_the_memory_through_content_and_boxes() -> None:
    selection, heads, pixels = make()
    memory = pixels.memory.requires_grad_()
    chosen = selection(pixels, heads, torch.randn(2, 8))
    for value in (chosen.content, chosen.boxes):
        (gradient,) = torch.autograd.grad(value.square().sum(), memory, retain_graph=True)
        assert torch.isfinite(gradient).all() and (gradient.abs().sum(-1) > 0).sum() == 10
