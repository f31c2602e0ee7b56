"""The pixel decoder by itself, as a decoder of another kind uses it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from partglee.layers import sine_position_map
from partglee.modeling.early_fusion import EarlyFusion
from partglee.modeling.pixel_decoder import EncoderLayer, PixelDecoder

CHANNELS, SIZES = (6, 8, 10, 12), ((16, 24), (8, 12), (4, 6), (2, 3))


def pixel_decoder(*, num_levels: int = 3, fusion: EarlyFusion | None = None) -> PixelDecoder:
    torch.manual_seed(0)
    decoder = PixelDecoder(
        in_channels=CHANNELS, embed_dim=16, num_levels=num_levels, num_layers=2, num_heads=2, num_points=3, ffn_dim=24,
        fusion=fusion, norm_groups=4,
    )  # fmt: skip
    for parameter in decoder.parameters():
        nn.init.normal_(parameter, std=0.3)
    return decoder.eval()


def maps(batch: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(batch, c, h, w, generator=generator) for c, (h, w) in zip(CHANNELS, SIZES, strict=True)]


def coarse_first(layer: EncoderLayer) -> EncoderLayer:
    """The same layer for levels in reversed order."""
    turned = copy.deepcopy(layer)
    heads, levels, points = turned.attn.num_heads, turned.attn.num_levels, turned.attn.num_points
    with torch.no_grad():
        for linear, shape in (
            (turned.attn.sampling_offsets, (heads, levels, points * 2)),
            (turned.attn.attention_weights, (heads, levels, points)),
        ):
            for parameter in linear.parameters():
                parameter.copy_(parameter.unflatten(0, shape).flip(1).flatten(0, 2))
    return turned


def mask2former(decoder: PixelDecoder, features: list[Tensor]) -> tuple[list[Tensor], Tensor]:
    """Mask2Former's pixel decoder as its paper draws it, coarse to fine: maps of the levels and mask features."""
    projected = [
        F.group_norm(proj.conv(f), 4, proj.norm.weight, proj.norm.bias)
        for proj, f in zip(decoder.input_proj, features[1:], strict=True)
    ][::-1]
    sizes = tuple((p.shape[2], p.shape[3]) for p in projected)
    memory = torch.cat([p.flatten(2).transpose(1, 2) for p in projected], dim=1)
    embed = decoder.level_embed.flip(0)
    position = torch.cat(
        [sine_position_map(h, w, 16, device=memory.device) + embed[i] for i, (h, w) in enumerate(sizes)], dim=1
    )
    centres = torch.tensor([((x + 0.5) / w, (y + 0.5) / h) for h, w in sizes for y in range(h) for x in range(w)])
    for layer in decoder.layers:
        memory = coarse_first(layer)(memory, position, centres[None, :, None], sizes)
    levels, start = [], 0
    for h, w in sizes:
        levels.append(memory[:, start : start + h * w].transpose(1, 2).reshape(len(memory), 16, h, w))
        start += h * w
    lateral, output = decoder.lateral, decoder.output
    finer = F.group_norm(lateral.conv(features[0]), 4, lateral.norm.weight, lateral.norm.bias)
    joined = finer + F.interpolate(levels[-1], size=finer.shape[2:], mode="bilinear", align_corners=False)
    joined = F.group_norm(output.conv(joined), 4, output.norm.weight, output.norm.bias).relu()
    return levels, decoder.mask_features(joined)


def test_three_levels_without_fusion_are_mask2formers() -> None:
    decoder, features = pixel_decoder(), maps()
    with torch.no_grad():
        pixels = decoder(features)
        levels, mask_features = mask2former(decoder, features)
    assert pixels.level_sizes == SIZES[:0:-1]
    for ours, expected in zip(pixels.maps(), levels, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(pixels.mask_features, mask_features, atol=1e-4, rtol=1e-4)


def test_parameters_of_mask2former() -> None:
    """Name by name what its files hold: a bias beside the norm of the projections alone, no level at stride 64."""
    shapes = {name: tuple(value.shape) for name, value in pixel_decoder().state_dict().items() if "layers." not in name}
    assert shapes == {
        "level_embed": (3, 16),
        **{f"input_proj.{i}.conv.weight": (16, c, 1, 1) for i, c in enumerate(CHANNELS[1:])},
        **{f"input_proj.{i}.{name}": (16,) for i in range(3) for name in ("conv.bias", "norm.weight", "norm.bias")},
        "lateral.conv.weight": (16, 6, 1, 1), "lateral.norm.weight": (16,), "lateral.norm.bias": (16,),
        "output.conv.weight": (16, 16, 3, 3), "output.norm.weight": (16,), "output.norm.bias": (16,),
        "mask_features.weight": (16, 16, 1, 1), "mask_features.bias": (16,),
    }  # fmt: skip


def test_without_a_fusion_block_the_text_plays_no_role() -> None:
    fused = pixel_decoder(fusion=EarlyFusion(embed_dim=16, inner_dim=8, num_heads=2))
    plain, tokens = pixel_decoder(), torch.randn(1, 5, 16)
    with torch.no_grad():
        assert torch.equal(plain(maps(), tokens).memory, plain(maps()).memory)
        assert not torch.allclose(fused(maps(), tokens).memory, fused(maps()).memory)


def test_further_levels_halve_the_coarsest_map() -> None:
    assert pixel_decoder(num_levels=5)(maps()).level_sizes == ((1, 1), (1, 2), *SIZES[:0:-1])


def test_wrong_numbers_of_levels() -> None:
    with pytest.raises(ValueError, match="at least 3, one for each map"):
        pixel_decoder(num_levels=2)
    with pytest.raises(ValueError, match="the FPN's map and those to encode"):
        PixelDecoder(in_channels=(6,), embed_dim=16, num_levels=1, num_layers=1, num_heads=2, num_points=1, ffn_dim=8)
