"""Backbone maps to memory and mask features (MaskDINO, arXiv 2206.02777, section 3).

B images, S memory tokens of all levels, E width; inside the encoder levels run fine to coarse.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from partglee.layers import (
    ConvNorm,
    FeedForward,
    MSDeformAttn,
    SeparableConvNorm,
    pixel_centres,
    sine_position_map,
)
from partglee.modeling.early_fusion import EarlyFusion
from partglee.structures import PixelFeatures

LevelSizes = tuple[tuple[int, int], ...]


class EncoderLayer(nn.Module):
    """Deformable self-attention over all levels and a feed-forward block, each followed by its norm."""

    def __init__(self, *, embed_dim: int, num_heads: int, num_levels: int, num_points: int, ffn_dim: int) -> None:
        super().__init__()
        self.attn = MSDeformAttn(embed_dim=embed_dim, num_heads=num_heads, num_levels=num_levels, num_points=num_points)
        self.attn_norm = nn.LayerNorm(embed_dim)
        self.ffn = FeedForward(embed_dim=embed_dim, ffn_dim=ffn_dim)
        self.ffn_norm = nn.LayerNorm(embed_dim)

    def forward(self, memory: Tensor, position: Tensor, centres: Tensor, level_sizes: LevelSizes) -> Tensor:
        """(B, S, E) -> (B, S, E); position (1, S, E), centres (1, S, 1, 2) in [0, 1]."""
        reference = centres.expand(memory.shape[0], -1, -1, -1)
        memory = self.attn_norm(memory + self.attn(memory + position, reference, memory, level_sizes))
        return self.ffn_norm(memory + self.ffn(memory))


class ProjectedMaps(NamedTuple):
    """The backbone's maps at the decoder's width, before text and encoder."""

    memory: Tensor  # (B, S, E), levels fine to coarse
    level_sizes: LevelSizes
    lateral: Tensor  # (B, E, H/4, W/4), for the FPN step


class PixelDecoder(nn.Module):
    """Deformable encoder, one early-fusion block in front of it where asked, and one FPN step to the finest map.

    With four maps at strides 4 to 32, three levels and no fusion this is Mask2Former's pixel decoder (arXiv 2112.01527,
    section 3.2). Its files index levels coarse to fine inside the encoder, this module fine to coarse: the rows of the
    level embedding, and the level axis of each layer's sampling offsets and attention weights, are in reversed order.

    Args:
        in_channels: channels of the backbone's maps, fine to coarse: the first (stride 4) joins in the FPN step alone,
            the others (strides 8, 16, 32) are encoded.
        num_levels: levels of the encoder; every one beyond the backbone's halves the coarsest map again.
        fusion: joins image memory and text tokens; None = the text plays no role here.
        norm_groups: of all group norms; must divide `embed_dim`.
        separable: the 3x3 convolution of the finest map, a fourth of a small model's work, is one of each channel and
            one of 1x1 over them; False = a full one (released).
    """

    def __init__(
        self,
        *,
        in_channels: Sequence[int],
        embed_dim: int,
        num_levels: int,
        num_layers: int,
        num_heads: int,
        num_points: int,
        ffn_dim: int,
        fusion: EarlyFusion | None = None,
        norm_groups: int = 32,
        checkpoint_layers: bool = False,
        separable: bool = False,
    ) -> None:
        super().__init__()
        if len(in_channels) < 2:
            raise ValueError(f"in_channels must name the FPN's map and those to encode, got {list(in_channels)}")
        if num_levels < len(in_channels) - 1:
            raise ValueError(
                f"num_levels must be at least {len(in_channels) - 1}, one for each map of in_channels but the first, "
                f"got {num_levels}"
            )
        self.checkpoint_layers = checkpoint_layers
        to_width = partial(ConvNorm, out_channels=embed_dim, num_groups=norm_groups)
        self.input_proj = nn.ModuleList(to_width(in_channels=c, kernel_size=1, bias=True) for c in in_channels[1:])
        for extra in range(num_levels - len(self.input_proj)):
            channels = in_channels[-1] if extra == 0 else embed_dim
            self.input_proj.append(to_width(in_channels=channels, kernel_size=3, stride=2, bias=True))
        self.level_embed = nn.Parameter(torch.randn(num_levels, embed_dim))
        self.fusion = fusion
        self.layers = nn.ModuleList(
            EncoderLayer(
                embed_dim=embed_dim, num_heads=num_heads, num_levels=num_levels, num_points=num_points, ffn_dim=ffn_dim
            )
            for _ in range(num_layers)
        )
        self.lateral = to_width(in_channels=in_channels[0], kernel_size=1)
        self.output = (
            SeparableConvNorm(channels=embed_dim, num_groups=norm_groups)
            if separable
            else to_width(in_channels=embed_dim, kernel_size=3, relu=True)
        )
        self.mask_features = nn.Conv2d(embed_dim, embed_dim, 1)
        nn.init.xavier_uniform_(self.mask_features.weight)
        nn.init.constant_(self.mask_features.get_parameter("bias"), 0)

    def forward(
        self, features: Sequence[Tensor], tokens: Tensor | None = None, token_mask: Tensor | None = None
    ) -> PixelFeatures:
        """Backbone maps (B, C_i, H/2^i, W/2^i), i = 2..5, and the text tokens (B or 1, T, E) to fuse, if any.

        The maps of one image may meet the tokens (R, T, E) of several texts: then the output has R rows.
        """
        return self.decode(self.read(features), tokens, token_mask)

    def read(self, features: Sequence[Tensor]) -> ProjectedMaps:
        """What comes before any text, of backbone maps as of `forward`."""
        maps = self.project(features)
        memory = torch.cat([m.flatten(2).transpose(1, 2) for m in maps], dim=1)
        return ProjectedMaps(memory, tuple((m.shape[-2], m.shape[-1]) for m in maps), self.lateral(features[0]))

    def decode(
        self, maps: ProjectedMaps, tokens: Tensor | None = None, token_mask: Tensor | None = None
    ) -> PixelFeatures:
        """`forward` from what `read` gave, which the texts of an image share."""
        memory, level_sizes, lateral = maps
        if self.fusion is not None and tokens is not None:
            memory, _ = self.fusion(memory, tokens, token_mask)
        levels = self.encode(memory, level_sizes)
        mask_features = self.upsample(levels[0], level_sizes[0], lateral)
        # The decoders read coarse to fine: released weights index levels that way (docs/design.md, released quirks).
        return PixelFeatures(torch.cat(levels[::-1], dim=1), level_sizes[::-1], mask_features)

    def project(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Maps of equal width, fine to coarse, with the extra coarse levels appended."""
        maps = [proj(f) for proj, f in zip(self.input_proj, features[1:], strict=False)]
        previous = features[-1]
        for proj in self.input_proj[len(maps) :]:
            previous = proj(previous)
            maps.append(previous)
        return maps

    def encode(self, memory: Tensor, level_sizes: LevelSizes) -> list[Tensor]:
        """(B, S, E) -> one (B, h*w, E) for each level."""
        position = self._position(level_sizes, memory)
        centres = centres_of(level_sizes, device=memory.device)[None, :, None]
        for layer in self.layers:
            if self.checkpoint_layers and self.training:
                memory = checkpoint(layer, memory, position, centres, level_sizes, use_reentrant=False)
            else:
                memory = layer(memory, position, centres, level_sizes)
        return list(memory.split([h * w for h, w in level_sizes], dim=1))

    def upsample(self, finest: Tensor, size: tuple[int, int], lateral: Tensor) -> Tensor:
        """The finest encoded level joined with the projected map of stride 4 -> mask features (B, E, H/4, W/4)."""
        if torch.compiler.is_compiling() or not lateral.is_contiguous(memory_format=torch.channels_last):
            top = finest.transpose(1, 2).unflatten(2, size).contiguous()  # a sum of two layouts takes longer
        else:
            top = finest.unflatten(1, size).permute(0, 3, 1, 2)  # channels last, as it lies in memory
        top = F.interpolate(top, size=lateral.shape[-2:], mode="bilinear", align_corners=False)
        return self.mask_features(self.output(lateral + top))

    def _position(self, level_sizes: LevelSizes, memory: Tensor) -> Tensor:
        width = memory.shape[-1]
        parts = [
            sine_position_map(h, w, width, device=memory.device) + self.level_embed[i]
            for i, (h, w) in enumerate(level_sizes)
        ]
        return torch.cat(parts, dim=1)


def centres_of(level_sizes: LevelSizes, *, device: torch.device) -> Tensor:
    """(S, 2) centres (x, y) of every pixel of every level, in [0, 1]."""
    centres = []
    for h, w in level_sizes:
        y, x = pixel_centres(h, device=device), pixel_centres(w, device=device)
        centres.append(torch.stack((x.expand(h, w), y[:, None].expand(h, w)), dim=-1).reshape(-1, 2))
    return torch.cat(centres)
