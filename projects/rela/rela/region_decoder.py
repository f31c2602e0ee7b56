"""Regions of an image that find their pixels, see each other and read the words (GRES, arXiv 2306.00968, section 4.2).

B images, E expressions, R = P x P regions, T words, C width, S pixels of all levels, h x w the stride-4 map.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from partglee.layers import MLP, FeedForward, MultiheadAttention, at_least_float32, sine_position_map
from partglee.modeling.photo_model import Words
from partglee.ops.masks import mask_logits
from partglee.structures import PixelFeatures
from rela.fusion import WordMemory

SPLITS = ("soft", "decoder", "input")
FORMS = ("layers", "after")


class RegionOutput(NamedTuple):
    """What the regions say of each expression. Masks stay factored: logits are embeddings times mask features."""

    minimap: Tensor  # (E, R, 2) logits of background and target in each region
    no_target: Tensor  # (E, 2) logits of "has a target" and "has none"
    mask_embed: Tensor  # (E, R, C)
    mask_features: Tensor  # (E, C, h, w), or (1, C, h, w) where all expressions share them
    merge_scale: float = 1.0  # of the merged mask
    added: WordMemory | None = None  # what words add to the mask features

    @property
    def merged_embed(self) -> Tensor:
        """(E, 2, C): background and target, each the sum of the regions' embeddings weighted by the minimap (eq. 1)."""
        return self.minimap.transpose(1, 2) @ self.mask_embed * self.merge_scale

    @property
    def masks(self) -> Tensor:
        """(E, 2, h, w) logits of background and target."""
        return self.mask_logits(self.merged_embed)

    @property
    def region_masks(self) -> Tensor:
        """(E, R, h, w) logits."""
        return self.mask_logits(self.mask_embed)

    def mask_logits(self, mask_embed: Tensor) -> Tensor:
        """(E, N, C) -> (E, N, h, w)."""
        logits = mask_logits(mask_embed, self.mask_features)
        if self.added is None:
            return logits
        return logits + self.added.mask_logits(mask_embed, (logits.shape[-2], logits.shape[-1]))


class RegionLayer(nn.Module):
    """Regions read pixels (masked cross-attention), then each other, then a feed-forward block; norms come after.

    Args:
        region_attention: False leaves the regions apart from each other.
        pooled: a region is the mean of its own cell of the image, not what its query finds.
    """

    def __init__(
        self, *, embed_dim: int, num_heads: int, ffn_dim: int, region_attention: bool = True, pooled: bool = False
    ) -> None:
        super().__init__()
        self.pooled = pooled
        self.pixel_attn = MultiheadAttention(embed_dim=embed_dim, num_heads=num_heads)
        self.pixel_norm = nn.LayerNorm(embed_dim)
        self.region_attn = MultiheadAttention(embed_dim=embed_dim, num_heads=num_heads) if region_attention else None
        self.region_norm = nn.LayerNorm(embed_dim) if region_attention else None
        self.ffn = FeedForward(embed_dim=embed_dim, ffn_dim=ffn_dim)
        self.ffn_norm = nn.LayerNorm(embed_dim)

    def read_pixels(self, regions: Tensor, position: Tensor, level: Level, blocked: Tensor | None) -> Tensor:
        """(E, R, C) -> (E, R, C); `blocked` (E, R, h*w) is True where a region must not look."""
        if self.pooled:
            read = self.pixel_attn.single_key(level.cells)
        else:
            read = self.pixel_attn(regions + position, level.keys, level.pixels, blocked)
        return self.pixel_norm(regions + read)

    def relate(self, regions: Tensor, position: Tensor) -> Tensor:
        """Self-attention and feed-forward."""
        if self.region_attn is not None and self.region_norm is not None:
            query = regions + position
            regions = self.region_norm(regions + self.region_attn(query, query, regions))
        return self.ffn_norm(regions + self.ffn(regions))


class LanguageAttention(nn.Module):
    """Regions read the words; what they read is added through a gate. The word projection starts at zero.

    Args:
        scale: further factor of what is added (released: 0.1).
        attend_to_padding: released: the padding of short expressions takes part.
    """

    def __init__(
        self, *, embed_dim: int, word_dim: int, num_heads: int, scale: float = 0.1, attend_to_padding: bool = False
    ) -> None:
        super().__init__()
        self.scale = scale
        self.attend_to_padding = attend_to_padding
        self.proj = nn.Linear(word_dim, embed_dim, bias=False)
        self.attn = MultiheadAttention(embed_dim=embed_dim, num_heads=num_heads)
        self.norm = nn.LayerNorm(embed_dim)
        self.gate = nn.Parameter(torch.zeros(()))
        nn.init.zeros_(self.proj.weight)

    def forward(self, regions: Tensor, words: Words) -> Tensor:
        """(E, R, C) and (E, T, D) -> what to add, (E, R, C)."""
        states = self.proj(words.states)
        blocked = None
        if not self.attend_to_padding:
            # Whole vectors of keys: the fused kernel masks 16 several times as fast as 15.
            more = -states.shape[1] % 16
            states = F.pad(states, (0, 0, 0, more))
            blocked = ~F.pad(words.mask, (0, more))[:, None].expand(-1, regions.shape[1], -1)
        read = self.norm(regions + self.attn(regions, states, states, blocked))
        return read * (self.gate.sigmoid() * self.scale)


class MeanWord(nn.Module):
    """In place of attention to words, as the paper's ablation has it: regions times the mean word."""

    def __init__(self, *, embed_dim: int, word_dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(word_dim, embed_dim)

    def forward(self, regions: Tensor, words: Words) -> Tensor:
        """What to add so that (E, R, C) regions are multiplied with their expression's mean word."""
        weight = words.mask.to(words.states.dtype)[..., None]
        mean = (words.states * weight).sum(dim=1, keepdim=True) / weight.sum(dim=1, keepdim=True)
        return regions * self.proj(mean) - regions


class Level(NamedTuple):
    """One memory level, as the regions read it; the first axis is 1 where all expressions share the image."""

    pixels: Tensor  # (E, h*w, C)
    keys: Tensor  # (E, h*w, C), with position
    cells: Tensor  # (E, R, C) mean of the pixels in each cell of the P x P grid; empty unless regions are pooled
    mask_features: Tensor  # (E, C, h, w) at this level's size


class RegionDecoder(nn.Module):
    """P x P learned regions, `num_layers` layers that read one memory level each, coarse to fine and again.

    Args:
        num_regions: P; region k belongs to cell (k // P, k % P) of the image.
        num_layers: the levels take turns.
        form: "layers": words enter in the first layer, regions look at each other in every layer, and every head reads
            the last one (released); "after": layers read pixels alone, one block of region and language attention
            follows, from which minimap and no-target come, while masks come from before it (the paper's figure 5, and
            the released code's earlier form).
        split: "soft": regions find their pixels; "decoder" and "input": a region is its own cell of the image.
        language_attention: False: regions are multiplied with the mean word instead.
        merge_scale: of the sum over regions (released: 1). A sum of R terms starts that much steeper than one of them.
        language_layers: in how many of the first layers words are read (released: 1).
        attend_to_padding: the padding of expressions takes part; they must then come with as much as in training.
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        word_dim: int,
        num_heads: int,
        num_layers: int,
        num_levels: int,
        ffn_dim: int,
        num_regions: int = 10,
        form: str = "layers",
        split: str = "soft",
        language_attention: bool = True,
        region_attention: bool = True,
        language_layers: int = 1,
        language_scale: float = 0.1,
        attend_to_padding: bool = False,
        merge_scale: float = 1.0,
    ) -> None:
        super().__init__()
        if form not in FORMS:
            raise ValueError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        if num_regions < 1 or num_layers < 1 or not 1 <= language_layers <= num_layers:
            raise ValueError(
                "expected num_regions >= 1, num_layers >= 1 and language_layers between 1 and num_layers, "
                f"got {num_regions}, {num_layers}, {language_layers}"
            )
        self.num_regions = num_regions
        self.form = form
        self.attend_to_padding = attend_to_padding and language_attention
        self.merge_scale = merge_scale
        self.pooled = split != "soft"
        self.content = nn.Parameter(torch.randn(num_regions**2, embed_dim))
        # Where its cell is, as the keys of pixels say it: a region looks at its own cell first.
        cells = sine_position_map(num_regions, num_regions, embed_dim, device=self.content.device)
        self.position = nn.Parameter(cells[0].to(self.content.dtype).clone())
        self.level_embed = nn.Parameter(torch.randn(num_levels, embed_dim))
        self.layers = nn.ModuleList(
            RegionLayer(
                embed_dim=embed_dim, num_heads=num_heads, ffn_dim=ffn_dim, pooled=self.pooled,
                region_attention=region_attention and form == "layers",
            )
            for _ in range(num_layers)
        )  # fmt: skip
        language = [
            LanguageAttention(
                embed_dim=embed_dim, word_dim=word_dim, num_heads=num_heads, scale=language_scale,
                attend_to_padding=attend_to_padding,
            )
            if language_attention
            else MeanWord(embed_dim=embed_dim, word_dim=word_dim)
            for _ in range(language_layers if form == "layers" else 1)
        ]  # fmt: skip
        self.language = nn.ModuleList(language)
        self.relation: RegionLayer | None = None
        if form == "after":
            self.relation = RegionLayer(
                embed_dim=embed_dim, num_heads=num_heads, ffn_dim=ffn_dim, region_attention=region_attention
            )
            del self.relation.pixel_attn, self.relation.pixel_norm
        self.norm = nn.LayerNorm(embed_dim)
        self.mask_mlp = MLP(input_dim=embed_dim, hidden_dim=embed_dim, output_dim=embed_dim, num_layers=3)
        self.minimap = nn.Linear(embed_dim, 2)
        self.no_target = MLP(input_dim=embed_dim, hidden_dim=embed_dim, output_dim=2, num_layers=2)

    def forward(self, pixels: PixelFeatures, words: Words, added: WordMemory | None = None) -> RegionOutput:
        """Pixels of E expressions (1 = they share the image), their words, and what these add to the pixels -> what the
        regions say."""
        levels = self.levels_of(pixels, added)
        regions = self.content[None]  # one row until something tells the expressions apart
        for i, layer in enumerate(cast("Iterable[RegionLayer]", self.layers)):
            level = levels[i % len(levels)]
            blocked = None if self.pooled else self.blocked(regions, level)
            regions = layer.read_pixels(regions, self.position, level, blocked)
            if self.form == "layers" and i < len(self.language):
                regions = regions + self.language[i](regions, words)
            regions = layer.relate(regions, self.position)
        mask_embed = self.mask_mlp(self.norm(regions))
        if self.relation is not None:
            regions = self.relation.relate(regions + self.language[0](regions, words), self.position)
        said = self.norm(regions)
        mask_embed = mask_embed.expand(len(said), -1, -1)
        return RegionOutput(
            minimap=at_least_float32(self.minimap(said)),
            no_target=at_least_float32(self.no_target(said).mean(dim=1)),
            mask_embed=mask_embed,
            mask_features=pixels.mask_features,
            merge_scale=self.merge_scale,
            added=added,
        )

    def levels_of(self, pixels: PixelFeatures, added: WordMemory | None = None) -> list[Level]:
        """Memory level by level, coarse to fine, ready to be read."""
        levels = []
        split = pixels.memory.split([h * w for h, w in pixels.level_sizes], dim=1)
        width = pixels.memory.shape[-1]
        resized = resized_features(pixels, added)
        for i, (memory, (h, w), own) in enumerate(zip(split, pixels.level_sizes, self.level_embed, strict=True)):
            memory = memory + own
            keys = memory + sine_position_map(h, w, width, device=memory.device).to(memory.dtype)
            if added is not None:
                memory, keys = memory + added.levels[i], keys + added.levels[i]
            cells = memory[:, :0]
            if self.pooled:
                maps = memory.transpose(1, 2).unflatten(2, (h, w))
                cells = F.adaptive_avg_pool2d(maps, self.num_regions).flatten(2).transpose(1, 2)
            levels.append(Level(memory, keys, cells, resized[i]))
        return levels

    @torch.no_grad()
    def blocked(self, regions: Tensor, level: Level) -> Tensor:
        """(E, R, h*w): pixels outside a region's present mask; a region without any pixel sees all."""
        outside = mask_logits(self.mask_mlp(self.norm(regions)), level.mask_features).flatten(2) < 0
        return outside & ~outside.all(dim=-1, keepdim=True)


@torch.no_grad()
def resized_features(pixels: PixelFeatures, added: WordMemory | None) -> list[Tensor]:
    """Mask features (E, C, h, w) at the size of each level, for the masks of attention.

    Resizing and the dot product commute; in this order the product is 4 to 64 times smaller.
    """
    features, sizes = pixels.mask_features, pixels.level_sizes
    # Channels last resize several times as fast.
    features = features.contiguous(memory_format=torch.channels_last)
    resized = [F.interpolate(features, size=size, mode="bilinear", align_corners=False) for size in sizes]
    if added is None:
        return resized
    gained = added.mask_features((features.shape[-2], features.shape[-1]), sizes)
    return [shared + own for shared, own in zip(resized, gained, strict=True)]
