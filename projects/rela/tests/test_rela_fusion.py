"""Words in feature maps, against loops."""

from __future__ import annotations

import math

import pytest
import torch
from rela.fusion import Gate, WordFusion, normalised_over_pixels
from rela_helpers import WORD_DIM, some_words
from torch.nn import functional as F

from partglee.modeling.photo_model import Words

DIM, PIXELS = 8, 6


@pytest.fixture
def block() -> WordFusion:
    torch.manual_seed(0)
    return WordFusion(dim=DIM, word_dim=WORD_DIM).double()


@pytest.fixture
def words() -> Words:
    return some_words(3, dtype=torch.float64)


def linear(layer, vector):
    return layer.weight[..., 0] @ vector + layer.bias


def slow(block: WordFusion, pixels: torch.Tensor, words: Words, *, apart: bool = True) -> torch.Tensor:
    """One expression and one image, (C, N) -> (N, C), pixel by pixel and word by word."""
    count = pixels.shape[1]
    query = torch.stack([linear(block.query, pixels[:, n]) for n in range(count)])
    query = (query - query.mean(0)) / (query.var(0, unbiased=False) + 1e-5).sqrt()
    read = []
    for n in range(count):
        logits, values = [], []
        for state, valid in zip(words.states[0], words.mask[0], strict=True):
            if valid:
                logits.append(query[n] @ linear(block.key, state) / math.sqrt(DIM))
                values.append(linear(block.value, state))
        weights = torch.stack(logits).softmax(0)
        read.append(linear(block.out, sum(w * v for w, v in zip(weights, values, strict=True))))
    read = torch.stack(read)
    if apart:
        read = (read - read.mean(0)) / (read.var(0, unbiased=False) + 1e-5).sqrt()
    rows = []
    for n in range(count):
        joined = F.gelu(linear(block.join, F.gelu(linear(block.visual, pixels[:, n])) * read[n]))
        rows.append(F.layer_norm(joined, (DIM,), block.norm.weight, block.norm.bias))
    return torch.stack(rows)


@pytest.mark.parametrize(("words_first", "apart"), [(False, True), (True, True), (True, False)])
def test_against_loops(block: WordFusion, words: Words, words_first: bool, apart: bool) -> None:
    block.words_first, block.apart = words_first, apart
    pixels = torch.randn(3, DIM, PIXELS, dtype=torch.float64)
    fused = block(block.prepare(pixels), words)
    for e in range(3):
        one = Words(words.states[e : e + 1], words.mask[e : e + 1])
        torch.testing.assert_close(fused[e], slow(block, pixels[e], one, apart=apart))


def test_padding_plays_no_role(block: WordFusion, words: Words) -> None:
    side = block.prepare(torch.randn(3, DIM, PIXELS, dtype=torch.float64))
    other = words.states.masked_fill(~words.mask[..., None], 7.0)
    torch.testing.assert_close(block(side, words), block(side, Words(other, words.mask)))
    changed = words.states.masked_fill(words.mask[..., None], 7.0)
    assert not torch.allclose(block(side, words), block(side, Words(changed, words.mask)))


def test_one_image_serves_all_expressions(block: WordFusion, words: Words) -> None:
    pixels = torch.randn(1, DIM, PIXELS, dtype=torch.float64)
    shared, repeated = block.prepare(pixels), block.prepare(pixels.expand(3, -1, -1))
    torch.testing.assert_close(block(shared, words), block(repeated, words))


def test_one_pixel_is_its_own_mean(block: WordFusion, words: Words) -> None:
    assert not normalised_over_pixels(torch.randn(2, DIM, 1)).any()
    fused = block(block.prepare(torch.randn(1, DIM, 1, dtype=torch.float64)), words)
    assert fused.shape == (3, 1, DIM) and fused.isfinite().all()


def test_gradients(block: WordFusion, words: Words) -> None:
    pixels = torch.randn(1, DIM, 3, dtype=torch.float64, requires_grad=True)
    states = words.states[:2].clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda p, s: block(block.prepare(p), Words(s, words.mask[:2])), (pixels, states)
    )  # fmt: skip


def test_a_gate_starts_closed_and_can_open() -> None:
    gate = Gate(dim=DIM)
    residual = torch.randn(2, PIXELS, DIM)
    out = gate(residual)
    assert not out.any()
    out.sum().backward()
    assert gate.outer.weight.grad.any()  # zero in the released code, whose gate never opens
    torch.nn.init.eye_(gate.inner.weight)
    torch.nn.init.eye_(gate.outer.weight)
    torch.testing.assert_close(gate(residual), residual.clamp(min=0).tanh() * residual)
