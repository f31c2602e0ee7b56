"""The region decoder, against one written with torch's own layers, mask by mask; and every switch does what it says."""

from __future__ import annotations

import pytest
import torch
from rela.fusion import WordMemory
from rela.region_decoder import LanguageAttention, RegionDecoder, RegionLayer, RegionOutput
from rela_helpers import DIM, WORD_DIM, decoder, some_pixels, some_words
from torch import Tensor, nn
from torch.nn import functional as F

from partglee.layers import sine_position_map
from partglee.modeling.photo_model import Words


def released_sizes() -> RegionDecoder:
    return RegionDecoder(embed_dim=256, word_dim=768, num_heads=8, num_layers=9, num_levels=3, ffn_dim=2048)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_parameter_counts_of_the_released_model() -> None:
    with torch.device("meta"):
        made = released_sizes()
    layer = made.layers[0]
    assert count(layer.pixel_attn) + count(layer.pixel_norm) == 263_680
    assert count(layer.ffn) + count(layer.ffn_norm) == 1_051_392
    assert count(layer) == 1_578_752
    assert count(made) == 14_985_733


def attend(own: nn.Module, query: Tensor, key: Tensor, value: Tensor, blocked: Tensor | None = None) -> Tensor:
    """torch's attention with the same weights, one expression."""
    theirs = nn.MultiheadAttention(own.embed_dim, own.num_heads, batch_first=True).to(query.dtype)
    theirs.load_state_dict(own.state_dict())
    return theirs(query[None], key[None], value[None], attn_mask=blocked, need_weights=False)[0][0]


def slow(own: RegionDecoder, pixels, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Minimap, no-target and region masks of one image and one expression."""
    split = pixels.memory[0].split([h * w for h, w in pixels.level_sizes])
    regions = own.content
    for i, layer in enumerate(own.layers):
        level = i % len(split)
        h, w = pixels.level_sizes[level]
        memory = split[level] + own.level_embed[level]
        key = memory + sine_position_map(h, w, DIM, device=memory.device)[0].to(memory)
        masks = torch.einsum("rc,chw->rhw", own.mask_mlp(own.norm(regions)), pixels.mask_features[0])
        small = F.interpolate(masks[None], size=(h, w), mode="bilinear", align_corners=False)[0].flatten(1)
        blocked = small.sigmoid() < 0.5
        for row in blocked:
            if row.all():
                row[:] = False
        read = attend(layer.pixel_attn, regions + own.position, key, memory, blocked)
        regions = layer.pixel_norm(regions + read)
        if i == 0:
            language = own.language[0]
            words = language.proj(states[mask])
            said = language.norm(regions + attend(language.attn, regions, words, words))
            regions = regions + said * language.gate.sigmoid() * 0.1
        query = regions + own.position
        regions = layer.region_norm(regions + attend(layer.region_attn, query, query, regions))
        regions = layer.ffn_norm(regions + layer.ffn(regions))
    said = own.norm(regions)
    masks = torch.einsum("rc,chw->rhw", own.mask_mlp(said), pixels.mask_features[0])
    return own.minimap(said), own.no_target(said).mean(0), masks


@torch.no_grad()
def test_against_torch_layers() -> None:
    own = decoder().double()
    pixels, words = some_pixels(2, dtype=torch.float64), some_words(2, dtype=torch.float64)
    output = own(pixels, words)
    for e in range(2):
        one = pixels._replace(memory=pixels.memory[e : e + 1], mask_features=pixels.mask_features[e : e + 1])
        minimap, no_target, masks = slow(own, one, words.states[e], words.mask[e])
        torch.testing.assert_close(output.minimap[e], minimap)
        torch.testing.assert_close(output.no_target[e], no_target)
        torch.testing.assert_close(output.region_masks[e], masks)
        merged = torch.zeros(2, 12, 16, dtype=torch.float64)
        for r in range(9):
            for channel in range(2):
                merged[channel] += minimap[r, channel] * masks[r]
        torch.testing.assert_close(output.masks[e], merged)


@torch.no_grad()
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("split", ["soft", "decoder"])
def test_what_words_add_is_as_if_it_were_added_at_once(shared: bool, split: str) -> None:
    """To memory and mask features of each expression, made whole, against kept apart until masks are made."""
    own = decoder(split=split).double()
    pixels, words = some_pixels(1 if shared else 3, dtype=torch.float64), some_words(3, dtype=torch.float64)
    torch.manual_seed(5)
    levels = tuple(torch.randn(3, h * w, DIM, dtype=torch.float64) for h, w in pixels.level_sizes)
    linear = nn.Linear(DIM, DIM).double()
    features = []
    for e in range(3):
        finest = linear(levels[-1][e]).T.reshape(1, DIM, *pixels.level_sizes[-1])
        up = F.interpolate(finest, size=(12, 16), mode="bilinear", align_corners=False)
        features.append(pixels.mask_features[0 if shared else e] + up[0])
    whole = pixels._replace(memory=pixels.memory + torch.cat(levels, dim=1), mask_features=torch.stack(features))
    expected = own(whole, words)
    found = own(pixels, words, WordMemory(levels, pixels.level_sizes[-1], linear.weight, linear.bias))
    for name in ("masks", "region_masks", "minimap", "no_target"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name))
    plain = own(pixels._replace(memory=whole.memory), words)
    assert not torch.allclose(found.masks, plain.masks, atol=1e-2)  # mask features do gain from the words


@torch.no_grad()
def test_one_image_serves_all_expressions() -> None:
    own, pixels, words = decoder(), some_pixels(1), some_words(3)
    found = own(pixels, words)
    repeated = own(pixels._replace(memory=pixels.memory.expand(3, -1, -1),
                                   mask_features=pixels.mask_features.expand(3, -1, -1, -1)), words)  # fmt: skip
    assert found.mask_embed.shape == (3, 9, DIM)
    for name in ("masks", "region_masks", "minimap", "no_target"):
        torch.testing.assert_close(getattr(found, name), getattr(repeated, name), atol=1e-5, rtol=1e-5)


def test_merge_scale() -> None:
    output = RegionOutput(torch.ones(1, 4, 2), torch.zeros(1, 2), torch.ones(1, 4, 3), torch.ones(1, 3, 2, 2))
    assert (output.masks == 12).all()
    assert (output._replace(merge_scale=0.25).masks == 3).all()


def test_a_region_blocked_everywhere_sees_all() -> None:
    own = decoder(num_layers=1)
    pixels = some_pixels(1)
    level = own.levels_of(pixels)[0]
    blocked = own.blocked(own.content[None], level)
    assert blocked.any() and not blocked.all(-1).any()
    none = level._replace(mask_features=torch.zeros_like(level.mask_features) - 1)
    with torch.no_grad():
        own.mask_mlp.layers[-1].weight.zero_()
        own.mask_mlp.layers[-1].bias.fill_(1.0)
    assert not own.blocked(own.content[None], none).any()  # every logit is negative
    assert not own.blocked(own.content[None], none._replace(mask_features=-none.mask_features)).any()


def test_masks_of_attention_have_no_gradient() -> None:
    own, pixels = decoder(num_layers=1), some_pixels(1)
    features = pixels.mask_features.requires_grad_()
    own(pixels._replace(mask_features=features), some_words(1)).minimap.sum().backward()
    assert features.grad is None


@pytest.mark.parametrize("num_regions", [4, 8, 10, 12])
def test_number_of_regions(num_regions: int) -> None:
    output = decoder(num_regions=num_regions)(some_pixels(1), some_words(1))
    assert output.minimap.shape == (1, num_regions**2, 2)
    assert output.region_masks.shape == (1, num_regions**2, 12, 16)


@torch.no_grad()
def test_words_enter_through_a_gate_that_starts_with_nothing() -> None:
    torch.manual_seed(0)
    made = LanguageAttention(embed_dim=DIM, word_dim=WORD_DIM, num_heads=4)
    regions, words = torch.randn(2, 9, DIM), some_words(2)
    fresh = made(regions, words)
    torch.testing.assert_close(fresh, made(regions, words._replace(states=words.states * 3)))  # words say nothing yet
    assert made.gate == 0 and fresh.abs().max() < 0.3  # half of a tenth of a normalised vector
    made.proj.weight.normal_()
    assert not torch.allclose(made(regions, words), made(regions, words._replace(states=words.states * 3)))
    made.scale = 0.2
    torch.testing.assert_close(made(regions, words), 2 * _scaled(made, regions, words, 0.1))


def _scaled(made: LanguageAttention, regions: Tensor, words: Words, scale: float) -> Tensor:
    made.scale = scale
    return made(regions, words)


@torch.no_grad()
@pytest.mark.parametrize("attend", [False, True])
def test_padding_of_words(attend: bool) -> None:
    own, pixels, words = decoder(attend_to_padding=attend), some_pixels(1), some_words(2)
    other = Words(words.states.masked_fill(~words.mask[..., None], 5.0), words.mask)
    same = torch.allclose(own(pixels, words).minimap, own(pixels, other).minimap, atol=1e-6)
    assert same is not attend


def depends_on_words(own: RegionDecoder) -> bool:
    pixels, words = some_pixels(1), some_words(1)
    other = Words(words.states.flip(-1), words.mask)
    return not torch.allclose(own(pixels, words).masks, own(pixels, other).masks, atol=1e-5)


@torch.no_grad()
def test_language_attention_off_multiplies_with_the_mean_word() -> None:
    own = decoder(language_attention=False, num_layers=1, region_attention=False)
    assert not any(isinstance(m, LanguageAttention) for m in own.modules())
    assert depends_on_words(own)
    regions, words = torch.randn(2, 9, DIM), some_words(2)
    expected = []
    for e in range(2):
        mean = words.states[e][words.mask[e]].mean(0)
        expected.append(regions[e] * own.language[0].proj(mean))
    torch.testing.assert_close(regions + own.language[0](regions, words), torch.stack(expected))


@torch.no_grad()
@pytest.mark.parametrize("region_attention", [True, False])
def test_regions_see_each_other(region_attention: bool) -> None:
    """Without self-attention a region's answer is its own, whatever the others are."""
    own, pixels, words = decoder(region_attention=region_attention), some_pixels(1), some_words(1)
    before = own(pixels, words).minimap[0, 0].clone()
    own.content[1:] += 1.0
    apart = torch.allclose(own(pixels, words).minimap[0, 0], before, atol=1e-6)
    assert apart is not region_attention


@torch.no_grad()
def test_hard_split_pools_each_region_from_its_own_cell() -> None:
    own = decoder(split="decoder", region_attention=False, num_regions=2, num_layers=1, language_scale=0.0)
    pixels, words = some_pixels(1), some_words(1)
    before = own(pixels, words).minimap[0].clone()
    memory = pixels.memory.clone()
    memory[0, 3] += 1.0  # level 0 is 2 x 2: its last pixel is the last region's cell
    after = own(pixels._replace(memory=memory), words).minimap[0]
    torch.testing.assert_close(after[:3], before[:3])
    assert not torch.allclose(after[3], before[3])
    layer: RegionLayer = own.layers[0]
    cell = pixels.memory[0, 1] + own.level_embed[0]
    read = layer.pixel_attn.out_proj(
        F.linear(cell, layer.pixel_attn.in_proj_weight[2 * DIM :], layer.pixel_attn.in_proj_bias[2 * DIM :])
    )
    level = own.levels_of(pixels)[0]
    regions = layer.read_pixels(own.content[None], own.position, level, None)
    torch.testing.assert_close(regions[0, 1], layer.pixel_norm(own.content[1] + read))


@torch.no_grad()
def test_the_earlier_form() -> None:
    """Masks come from before words and relations, minimap and no-target from behind."""
    own, pixels = decoder(form="after"), some_pixels(1)
    words = some_words(1)
    other = Words(words.states.flip(-1), words.mask)
    one, two = own(pixels, words), own(pixels, other)
    assert own(pixels, some_words(3)).region_masks.shape == (3, 9, 12, 16)
    torch.testing.assert_close(one.region_masks, two.region_masks)
    assert not torch.allclose(one.minimap, two.minimap)
    assert not torch.allclose(one.no_target, two.no_target)
    assert all(layer.region_attn is None for layer in own.layers) and own.relation is not None
    released = decoder()
    assert not torch.allclose(released(pixels, words).region_masks, released(pixels, other).region_masks)


@torch.no_grad()
def test_words_in_more_layers() -> None:
    assert len(decoder(language_layers=3).language) == 3
    with pytest.raises(ValueError, match="language_layers between 1 and num_layers"):
        decoder(language_layers=5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "before"}, "form must be one of"),
        ({"split": "diagonal"}, "split"),
        ({"num_regions": 0}, "num_regions"),
    ],
)
def test_wrong_values(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decoder(**options)
