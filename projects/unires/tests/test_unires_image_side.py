"""Group tokens on their way through a vision transformer or beside a pixel decoder."""

from __future__ import annotations

from typing import Any

import open_clip
import pytest
import torch
from torch import Tensor
from unires.grouping import GroupReader, GroupTokens, LanguageFilter
from unires.image_side import ClipImageSide, MapImageSide, build_tower
from unires_helpers import TOWER, slow_attention, slow_block, small_tower

from partglee.modeling.backbone import build_timm_backbone
from partglee.modeling.pixel_decoder import PixelDecoder


def images(batch: int = 1, height: int = 64, width: int = 64) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def clip_side(num_low: int = 5, num_high: int = 2) -> ClipImageSide:
    tower = small_tower()
    torch.manual_seed(3)
    return ClipImageSide(tower=tower, groups=GroupTokens(width=32, num_low=num_low, num_high=num_high)).eval()


@torch.no_grad()
def test_tokens_travel_through_their_half() -> None:
    """Against layers written out: low tokens ride in the first half and leave, high ones in the second."""
    side = clip_side().double()
    image = images().double()
    told = side(image)
    tower, groups = side.tower, side.groups
    x = tower.ln_pre(_embeds(side, image))
    blocks = list(tower.transformer.resblocks)
    assert groups.low is not None and groups.high is not None
    x = torch.cat((x, groups.low))
    for block in blocks[:2]:
        x = slow_block(block, x)
    low, x = x[17:], torch.cat((x[:17], groups.high))
    for block in blocks[2:]:
        x = slow_block(block, x)
    assert torch.allclose(told.groups["low"][0], low, atol=1e-10)
    assert torch.allclose(told.groups["high"][0], x[17:], atol=1e-10)
    assert torch.allclose(told.tokens[0], tower.ln_post(x[1:17]), atol=1e-10) and told.grid == (4, 4)


def _embeds(side: ClipImageSide, image: Tensor) -> Tensor:
    """(17, W) class token and 4 x 4 patches of 16 x 16 pixels with their places, patch by patch."""
    tower = side.tower
    rows = [tower.class_embedding]
    for y in range(4):
        for x in range(4):
            patch = image[0, :, 16 * y : 16 * y + 16, 16 * x : 16 * x + 16]
            rows.append((tower.conv1.weight * patch).sum((1, 2, 3)))
    return torch.stack(rows) + tower.positional_embedding


@torch.no_grad()
def test_without_tokens_it_is_open_clips_tower() -> None:
    tower = small_tower()
    side = ClipImageSide(tower=tower, groups=GroupTokens(width=32, num_low=0, num_high=0)).eval()
    tower.output_tokens = True
    told = side(images(2))
    assert torch.allclose(told.tokens, tower(images(2))[1], atol=1e-5)
    assert told.groups == {}
    assert list(side.state_dict()) == [f"tower.{name}" for name in tower.state_dict()]


@pytest.mark.parametrize(
    ("num_low", "num_high", "levels"), [(4, 2, ("low", "high")), (4, 0, ("low",)), (0, 2, ("high",)), (0, 0, ())]
)
def test_which_tokens_there_are_and_what_learns(num_low: int, num_high: int, levels: tuple[str, ...]) -> None:
    """The ablation of table 8: a level that is off has no tokens, and none that is on stays without gradient."""
    side = clip_side(num_low, num_high)
    told = side(images(2))
    assert tuple(told.groups) == levels == side.groups.levels
    assert [told.groups[level].shape[1] for level in levels] == [n for n in (num_low, num_high) if n]
    (told.tokens.square().sum() + sum(group.square().sum() for group in told.groups.values())).backward()
    for level in ("low", "high"):
        tokens = getattr(side.groups, level)
        assert (tokens is None) == (level not in levels)
        assert tokens is None or (tokens.grad is not None and bool(tokens.grad.abs().sum(1).min() > 0))


@torch.no_grad()
def test_any_size_by_interpolated_positions() -> None:
    side = clip_side()
    wide = side(images(1, 48, 96))
    assert wide.grid == (3, 6) and wide.tokens.shape == (1, 18, 32)
    places = side.tower.positional_embedding
    assert torch.equal(side.places((4, 4)), places)
    slope = torch.arange(4.0)[:, None, None] * 2 + torch.arange(4.0)[None, :, None] * 3  # a plane stays one
    places[1:] = slope.expand(4, 4, 32).flatten(0, 1)
    finer = side.places((8, 8))
    assert torch.equal(finer[:1], places[:1])
    at = (torch.arange(8.0) + 0.5) / 2 - 0.5
    plane = (at[:, None] * 2 + at[None] * 3)[3:5, 3:5]
    assert torch.allclose(finer[1:, 5].unflatten(0, (8, 8))[3:5, 3:5], plane, atol=0.02)
    with pytest.raises(ValueError, match=r"multiples of 16, got \(64, 60\)"):
        side(images(1, 64, 60))


@torch.no_grad()
def test_images_of_a_batch_do_not_meet() -> None:
    side = clip_side()
    both = side(images(2))
    alone = side(images(2)[1:])
    assert torch.allclose(both.tokens[1:], alone.tokens, atol=1e-5)
    assert torch.allclose(both.groups["low"][1:], alone.groups["low"], atol=1e-5)


def test_layers_that_are_computed_again_give_the_same_gradients() -> None:
    gradients = []
    for again in (False, True):
        side = clip_side().train()
        side.checkpoint_layers = again
        told = side(images())
        (told.tokens.square().sum() + told.groups["high"].square().sum()).backward()
        gradients.append([p.grad for p in side.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 20
    assert all(torch.allclose(one, two, atol=1e-5) for one, two in zip(*gradients, strict=True))


@pytest.mark.parametrize(
    ("architecture", "count"),
    # conv + class token + places + two norms + blocks of 12 w^2 + 13 w
    [("ViT-B-16", (768, 16, 14, 12)), ("ViT-L-14", (1024, 14, 16, 24))],
)
def test_parameters_of_towers_by_hand(architecture: str, count: tuple[int, int, int, int]) -> None:
    width, patch, grid, layers = count
    with torch.device("meta"):
        tower = build_tower(architecture)
    by_hand = 3 * patch * patch * width + width + (grid * grid + 1) * width + 4 * width
    by_hand += layers * (12 * width * width + 13 * width)
    own = sum(p.numel() for p in tower.parameters())
    assert own == by_hand
    assert len(tower.transformer.resblocks) == layers


@pytest.mark.parametrize("name", ["RN50", "ViT-B-16-SigLIP", "vit_nothing"])
def test_a_tower_of_another_form(name: str) -> None:
    with pytest.raises(ValueError, match=f"CLIP's own vision transformer, got '{name}'"):
        build_tower(name)


def test_weights_of_open_clip_fit() -> None:
    config: dict[str, Any] = open_clip.get_model_config("ViT-B-16")
    with torch.device("meta"):
        model = open_clip.model.CLIP(config["embed_dim"], config["vision_cfg"], config["text_cfg"])
        own = build_tower("ViT-B-16").state_dict()
    theirs = model.visual.state_dict()
    assert set(theirs) == {*own, "proj"}
    assert all(own[name].shape == theirs[name].shape for name in own)


def test_small_options() -> None:
    assert sum(p.numel() for p in build_tower("ViT-B-16", options=TOWER).parameters()) < 100_000


@torch.no_grad()
def test_a_reader_sees_map_and_tokens() -> None:
    torch.manual_seed(0)
    reader = GroupReader(width=16, num_heads=2, ffn_dim=20).double().eval()
    tokens, features, places = (torch.randn(1, n, 16).double() for n in (3, 7, 7))
    normed, seen = reader.token_norm(tokens[0]), reader.map_norm(features[0])
    keys, values = torch.cat((normed, seen + places[0])), torch.cat((normed, seen))
    a = reader.attention
    expected = tokens[0] + slow_attention(normed, keys, values, a.in_proj_weight, a.in_proj_bias, a.out_proj, 2)
    expected = expected + reader.ffn(reader.ffn_norm(expected))
    assert torch.allclose(reader(tokens, features, places)[0], expected, atol=1e-10)


@torch.no_grad()
def test_a_filter_reads_words_and_no_padding() -> None:
    torch.manual_seed(0)
    lrf = LanguageFilter(width=16, word_dim=6, out_dim=10, num_heads=4, ffn_dim=20).double().eval()
    tokens, words = torch.randn(2, 3, 16).double(), torch.randn(2, 4, 6).double()
    mask = torch.tensor([[True, True, True, False], [True, True, True, True]])
    told = lrf(tokens, words, mask)
    a = lrf.attention
    for row, valid in enumerate((3, 4)):
        keys = lrf.to_key(words[row, :valid])
        x = tokens[row] + slow_attention(tokens[row], keys, keys, a.in_proj_weight, a.in_proj_bias, a.out_proj, 4)
        x = lrf.norm(x)
        assert torch.allclose(told[row], lrf.out(lrf.out_norm(x + lrf.ffn(x))), atol=1e-10)
    assert torch.allclose(lrf(tokens[:1], words, mask)[0], told[0])  # one image for both expressions
    words[0, 3] = 100
    assert torch.allclose(lrf(tokens, words, mask), told)


def test_no_negative_number_of_tokens() -> None:
    with pytest.raises(ValueError, match="at least 0, got -1 and 2"):
        GroupTokens(width=4, num_low=-1, num_high=2)


def map_side(num_low: int = 4, num_high: int = 2) -> MapImageSide:
    torch.manual_seed(0)
    backbone = build_timm_backbone("resnet10t")
    decoder = PixelDecoder(
        in_channels=backbone.channels, embed_dim=32, num_levels=3, num_layers=1, num_heads=4, num_points=2, ffn_dim=40
    )
    groups = GroupTokens(width=32, num_low=num_low, num_high=num_high)
    readers = {level: [GroupReader(width=32, num_heads=4, ffn_dim=40) for _ in range(2)] for level in groups.levels}
    return MapImageSide(backbone=backbone, pixel_decoder=decoder, groups=groups, readers=readers, width=32).eval()


@torch.no_grad()
def test_beside_a_pixel_decoder() -> None:
    side = map_side()
    told = side(images(2, 64, 96))
    pixels = side.pixel_decoder(side.backbone(images(2, 64, 96)))
    assert told.grid == (8, 12) and torch.allclose(told.tokens, pixels.memory[:, -96:], atol=1e-5)
    assert {level: group.shape for level, group in told.groups.items()} == {"low": (2, 4, 32), "high": (2, 2, 32)}
    assert set(map_side(0, 2)(images()).groups) == {"high"}
    with pytest.raises(ValueError, match="readers must be those of"):
        MapImageSide(backbone=side.backbone, pixel_decoder=side.pixel_decoder, groups=side.groups, readers={}, width=32)
