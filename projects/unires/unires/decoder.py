"""From an image, words and filtered group tokens to one map of logits for each expression (paper, section 4.2).

E expressions, N = h * w places, T words, G tokens of both levels, C width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from partglee.layers import FeedForward, MultiheadAttention

PROJECTIONS = ("linear", "dynamic")


class VisionLanguageLayer(nn.Module):
    """A transformer layer of the image's places: they see each other where asked, then the context; norms first.

    Args:
        self_attention: places see each other before they see the context.
    """

    def __init__(self, *, dim: int, num_heads: int, ffn_dim: int, self_attention: bool) -> None:
        super().__init__()
        self.self_norm = nn.LayerNorm(dim) if self_attention else None
        self.self_attention = MultiheadAttention(embed_dim=dim, num_heads=num_heads) if self_attention else None
        self.norm = nn.LayerNorm(dim)
        self.attention = MultiheadAttention(embed_dim=dim, num_heads=num_heads)
        self.ffn_norm = nn.LayerNorm(dim)
        self.ffn = FeedForward(embed_dim=dim, ffn_dim=ffn_dim)

    def forward(self, x: Tensor, places: Tensor, context: Tensor, blocked: Tensor | None = None) -> Tensor:
        """(E, N, C) or (1, N, C) places of the image, their (1, N, C) positions, (E, K, C) context -> (E, N, C).

        Args:
            blocked: (E, K) True = not read; every expression reads something.
        """
        if self.self_norm is not None and self.self_attention is not None:
            normed = self.self_norm(x)
            asked = normed + places
            x = x + self.self_attention(asked, asked, normed)
        # Where all are of one image, what is the same for its expressions is one row: its questions are made once.
        shut = None if blocked is None else blocked[:, None].expand(-1, x.shape[1], -1)
        x = x + self.attention(self.norm(x) + places, context, context, attn_mask=shut)
        return x + self.ffn(self.ffn_norm(x))


class VisionLanguageDecoder(nn.Module):
    """Two stages: places read the words, then the group tokens that the words have filtered. Without group tokens the
    second stage is not there (paper, table 8).

    Args:
        image_dim, word_dim: widths of what comes in; C is `dim`.
        num_layers: of each stage.
        second_stage: whether group tokens are read.
        self_attention: places see each other in every layer; costs most of what an expression costs.
    """

    def __init__(
        self,
        *,
        image_dim: int,
        word_dim: int,
        dim: int = 512,
        num_layers: tuple[int, int] = (3, 3),
        num_heads: int = 8,
        ffn_dim: int = 2048,
        second_stage: bool = True,
        self_attention: bool = True,
    ) -> None:
        super().__init__()

        def layers(count: int) -> nn.ModuleList:
            return nn.ModuleList(
                VisionLanguageLayer(dim=dim, num_heads=num_heads, ffn_dim=ffn_dim, self_attention=self_attention)
                for _ in range(count)
            )

        self.image_proj = nn.Linear(image_dim, dim)
        self.word_proj = nn.Linear(word_dim, dim)
        self.words_stage = layers(num_layers[0])
        self.groups_stage = layers(num_layers[1] if second_stage else 0)
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor, places: Tensor, words: Tensor, mask: Tensor, groups: Tensor | None) -> Tensor:
        """What each place of the image has to do with each expression.

        Args:
            tokens: (E, N, image_dim), or (1, N, image_dim) of the one image of all.
            places: (1, N, C).
            words: (E, T, word_dim).
            mask: (E, T) True = no padding.
            groups: (E, G, C) filtered tokens; None without a second stage.

        Returns:
            (E, N, C).
        """
        x, read = self.image_proj(tokens), self.word_proj(words)
        for layer in self.words_stage:
            x = layer(x, places, read, ~mask)
        if groups is not None:
            for layer in self.groups_stage:
                x = layer(x, places, groups)
        return self.norm(x)


class LinearProjection(nn.Module):
    """A linear layer to `scale` x `scale` logits for each place, which are laid beside each other (paper: "a linear
    projection layer")."""

    def __init__(self, *, dim: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.linear = nn.Linear(dim, scale * scale)

    def forward(self, x: Tensor, grid: tuple[int, int], sentence: Tensor) -> Tensor:
        """(E, N, C) of a (h, w) grid -> (E, scale * h, scale * w) logits."""
        del sentence
        logits = self.linear(x).transpose(1, 2).unflatten(2, grid)
        return F.pixel_shuffle(logits, self.scale)[:, 0]


class DynamicProjection(nn.Module):
    """A 3 x 3 convolution whose kernel the sentence makes (CRIS, arXiv 2111.15174, section 3.3), over a map that a
    linear layer has made finer.

    Args:
        inner_dim: channels of that map.
    """

    def __init__(self, *, dim: int, word_dim: int, scale: int, inner_dim: int = 32) -> None:
        super().__init__()
        self.scale = scale
        self.inner_dim = inner_dim
        self.finer = nn.Linear(dim, inner_dim * scale * scale)
        self.kernel = nn.Linear(word_dim, 9 * inner_dim + 1)

    def forward(self, x: Tensor, grid: tuple[int, int], sentence: Tensor) -> Tensor:
        """(E, N, C) of a (h, w) grid and (E, word_dim) sentences -> (E, scale * h, scale * w) logits."""
        fine = F.pixel_shuffle(self.finer(x).transpose(1, 2).unflatten(2, grid), self.scale)
        made = self.kernel(sentence)
        weight, bias = made[:, :-1].reshape(len(x), self.inner_dim, 3, 3), made[:, -1]
        height, width = fine.shape[-2:]
        # Each expression has its own kernel: expressions become groups of one convolution.
        joined = F.conv2d(fine.reshape(1, -1, height, width), weight, bias, padding=1, groups=len(x))
        return joined[0]


def sentence_state(words: Tensor, mask: Tensor) -> Tensor:
    """(E, T, D) words and their (E, T) mask -> (E, D), the last word that is no padding: CLIP's end of text."""
    last = mask.long().sum(1).sub(1).clamp(min=0)
    return words[torch.arange(len(words), device=words.device), last]
