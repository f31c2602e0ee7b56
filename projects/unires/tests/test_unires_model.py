"""The decoder, the projections and the model around them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from unires.decoder import (
    DynamicProjection,
    LinearProjection,
    VisionLanguageDecoder,
    VisionLanguageLayer,
    sentence_state,
)
from unires_helpers import slow_attention, small_model

from partglee.modeling.photo_model import Words

SAID = ["the left arm", "dog", "a wheel of the blue car"]


def images(batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, 64, 48, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("self_attention", [True, False])
@torch.no_grad()
def test_a_layer_written_out(self_attention: bool) -> None:
    torch.manual_seed(0)
    layer = VisionLanguageLayer(dim=16, num_heads=2, ffn_dim=20, self_attention=self_attention).double().eval()
    x, places, context = (torch.randn(1, n, 16).double() for n in (5, 5, 4))
    blocked = torch.tensor([[False, True, False, False]])
    expected = x[0]
    if layer.self_attention is not None and layer.self_norm is not None:
        normed = layer.self_norm(expected)
        asked, a = normed + places[0], layer.self_attention
        expected = expected + slow_attention(asked, asked, normed, a.in_proj_weight, a.in_proj_bias, a.out_proj, 2)
    seen, a = context[0][[0, 2, 3]], layer.attention
    asked = layer.norm(expected) + places[0]
    expected = expected + slow_attention(asked, seen, seen, a.in_proj_weight, a.in_proj_bias, a.out_proj, 2)
    expected = expected + layer.ffn(layer.ffn_norm(expected))
    assert torch.allclose(layer(x, places, context, blocked)[0], expected, atol=1e-10)


@torch.no_grad()
def test_one_image_for_all_expressions_or_a_copy_for_each() -> None:
    model = small_model().eval()
    words = model.read(SAID)
    encoded = model.encode_image(images())
    together = model.decode(encoded, words, torch.tensor([1, 0, 1]))
    assert together.shape == (3, 16, 12)
    one = model.encode_image(images()[1:])
    for row in (0, 2):
        alone = model.decode(one, Words(words.states[row : row + 1], words.mask[row : row + 1]), torch.zeros(1).long())
        assert torch.allclose(together[row : row + 1], alone, atol=1e-5)
    shared = model.decode(one, words, torch.zeros(3, dtype=torch.long))
    assert torch.allclose(shared[[0, 2]], together[[0, 2]], atol=1e-5)
    with pytest.raises(ValueError, match="the image of each of 3 expressions, got 2"):
        model.decode(one, words, torch.zeros(2, dtype=torch.long))


@torch.no_grad()
def test_padding_of_short_expressions_changes_nothing() -> None:
    model = small_model().eval()
    encoded = model.encode_image(images(1))
    long = model.decode(encoded, model.read(SAID), torch.zeros(3, dtype=torch.long))
    alone = model.decode(encoded, model.read(SAID[1:2]), torch.zeros(1, dtype=torch.long))
    assert torch.allclose(long[1:2], alone, atol=1e-5)


@pytest.mark.parametrize(("num_low", "num_high"), [(6, 3), (6, 0), (0, 3), (0, 0)])
def test_ablations_of_grouping(num_low: int, num_high: int) -> None:
    """What is off is gone with its filter; without grouping the second stage is gone too; all that is left learns."""
    model = small_model(num_low=num_low, num_high=num_high)
    assert set(model.filters) == {level for level, n in (("low", num_low), ("high", num_high)) if n}
    assert len(model.decoder.groups_stage) == (2 if num_low or num_high else 0)
    assert len(model.decoder.words_stage) == 2
    model(images(), model.read(SAID), torch.tensor([0, 0, 1])).square().mean().backward()
    still = {name for name, p in model.named_parameters() if p.grad is None}

    assert still == set()


@torch.no_grad()
def test_words_and_groups_matter() -> None:
    model = small_model().eval()
    encoded = model.encode_image(images(1))
    said = model.decode(encoded, model.read(SAID[:2]), torch.zeros(2, dtype=torch.long))
    assert not torch.allclose(said[0], said[1], atol=1e-3)
    others = encoded._replace(groups={level: -group for level, group in encoded.groups.items()})
    changed = model.decode(others, model.read(SAID[:2]), torch.zeros(2, dtype=torch.long))
    assert not torch.allclose(said, changed, atol=1e-3)


def test_parameters_of_the_decoder_by_hand() -> None:
    d, f, image, word = 24, 40, 32, 12
    for self_attention, stages in ((True, (3, 2)), (False, (1, 4))):
        decoder = VisionLanguageDecoder(
            image_dim=image, word_dim=word, dim=d, num_layers=stages, num_heads=4, ffn_dim=f,
            self_attention=self_attention,
        )  # fmt: skip
        attention, norm, ffn = 4 * d * d + 4 * d, 2 * d, 2 * d * f + f + d
        layer = attention + 2 * norm + ffn + (attention + norm if self_attention else 0)
        by_hand = sum(stages) * layer + (image + 1) * d + (word + 1) * d + norm
        assert sum(p.numel() for p in decoder.parameters()) == by_hand


@torch.no_grad()
def test_linear_projection_lays_logits_beside_each_other() -> None:
    projection = LinearProjection(dim=6, scale=2)
    x = torch.randn(1, 6, 6)
    told = projection(x, (2, 3), torch.zeros(1, 1))
    assert told.shape == (1, 4, 6)
    for place in range(6):
        row, column = divmod(place, 3)
        expected = projection.linear(x[0, place]).reshape(2, 2)
        assert torch.allclose(told[0, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2], expected, atol=1e-6)


@torch.no_grad()
def test_dynamic_projection_has_a_kernel_of_each_sentence() -> None:
    torch.manual_seed(0)
    projection = DynamicProjection(dim=6, word_dim=4, scale=2, inner_dim=3)
    x, sentence = torch.randn(2, 6, 6), torch.randn(2, 4)
    told = projection(x, (2, 3), sentence)
    for row in range(2):
        fine = F.pixel_shuffle(projection.finer(x[row]).T.reshape(1, 12, 2, 3), 2)
        made = projection.kernel(sentence[row])
        expected = F.conv2d(fine, made[:27].reshape(1, 3, 3, 3), made[27:], padding=1)[0, 0]
        assert torch.allclose(told[row], expected, atol=1e-5)


def test_the_last_word_stands_for_the_sentence() -> None:
    words = torch.arange(12.0).reshape(2, 3, 2)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    assert sentence_state(words, mask).tolist() == [[2, 3], [10, 11]]


def test_parts_that_do_not_fit() -> None:
    model = small_model()
    with pytest.raises(ValueError, match=r"filters must be those of levels \('low', 'high'\), got \('low',\)"):
        type(model)(
            image_side=model.image_side, text_encoder=model.text_encoder, filters={"low": model.filters["low"]},
            decoder=model.decoder, projection=model.projection,
        )  # fmt: skip
    with pytest.raises(ValueError, match="at least one word, got 2"):
        type(model)(
            image_side=model.image_side, text_encoder=model.text_encoder, filters=dict(model.filters.items()),
            decoder=model.decoder, projection=model.projection, context_length=2,
        )  # fmt: skip


def test_gradients_by_differences() -> None:
    torch.manual_seed(0)
    decoder: nn.Module = VisionLanguageDecoder(
        image_dim=4, word_dim=3, dim=8, num_layers=(1, 1), num_heads=2, ffn_dim=6
    ).double()
    tokens = torch.randn(1, 3, 4, dtype=torch.double, requires_grad=True)
    words = torch.randn(2, 2, 3, dtype=torch.double, requires_grad=True)
    groups = torch.randn(2, 2, 8, dtype=torch.double, requires_grad=True)
    places, mask = torch.randn(1, 3, 8, dtype=torch.double), torch.tensor([[True, False], [True, True]])
    assert torch.autograd.gradcheck(
        lambda t, w, g: decoder(t, places, w, mask, g), (tokens, words, groups), fast_mode=True
    )
