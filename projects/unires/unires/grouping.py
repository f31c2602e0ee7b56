"""Group tokens and the words that filter them (UniRES, arXiv 2312.08007, section 4.1).

B images, E expressions, T words, G tokens of one level, N places of a map, W width of the image side, D of the words.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from partglee.layers import FeedForward, MultiheadAttention

LEVELS = ("low", "high")


class GroupTokens(nn.Module):
    """Learned tokens that gather what belongs together: many of low level, which see local features, few of high level.

    Who sees the image with them is not this module's matter: the layers of a vision transformer, or `GroupReader`s.

    Args:
        width: W.
        num_low, num_high: tokens of each level (paper: 64 and 8); 0 = the level is not there.
    """

    def __init__(self, *, width: int, num_low: int = 64, num_high: int = 8) -> None:
        super().__init__()
        if num_low < 0 or num_high < 0:
            raise ValueError(f"num_low and num_high must be at least 0, got {num_low} and {num_high}")
        self.low = nn.Parameter(torch.zeros(num_low, width)) if num_low else None
        self.high = nn.Parameter(torch.zeros(num_high, width)) if num_high else None
        for tokens in self.parameters():
            nn.init.normal_(tokens, std=width**-0.5)  # as the class token of a CLIP vision transformer

    @property
    def levels(self) -> tuple[str, ...]:
        """Those that are there, low before high."""
        return tuple(level for level in LEVELS if getattr(self, level) is not None)

    def of(self, level: str, batch: Tensor) -> Tensor:
        """(B, G, W) the tokens of a level for each image of `batch` (B, ...); G = 0 where the level is not there."""
        tokens = getattr(self, level)
        if tokens is None:
            return batch.new_zeros(len(batch), 0, batch.shape[-1])
        return tokens.to(batch.dtype).expand(len(batch), -1, -1)


class GroupReader(nn.Module):
    """One layer by which tokens see a map where no vision transformer does it for them.

    Attention to the map and to each other, then a feed-forward block, norms first. The map itself stays as it is.
    """

    def __init__(self, *, width: int, num_heads: int, ffn_dim: int) -> None:
        super().__init__()
        self.token_norm = nn.LayerNorm(width)
        self.map_norm = nn.LayerNorm(width)
        self.attention = MultiheadAttention(embed_dim=width, num_heads=num_heads)
        self.ffn_norm = nn.LayerNorm(width)
        self.ffn = FeedForward(embed_dim=width, ffn_dim=ffn_dim)

    def forward(self, tokens: Tensor, features: Tensor, places: Tensor) -> Tensor:
        """(B, G, W) tokens, (B, N, W) features and their (1, N, W) places -> (B, G, W)."""
        normed, seen = self.token_norm(tokens), self.map_norm(features)
        key = torch.cat((normed, seen + places), dim=1)
        tokens = tokens + self.attention(normed, key, torch.cat((normed, seen), dim=1))
        return tokens + self.ffn(self.ffn_norm(tokens))


class LanguageFilter(nn.Module):
    """The language-guided region filter: tokens read the words and keep what the expression speaks of.

    Tokens ask, words answer; what they say is added to the tokens, and a feed-forward block follows, added as well
    (paper, figure 4). Padding among the words is not read.

    Args:
        width: W.
        word_dim: D.
        out_dim: of what the decoder is given.
    """

    def __init__(self, *, width: int, word_dim: int, out_dim: int, num_heads: int, ffn_dim: int) -> None:
        super().__init__()
        self.to_key = nn.Linear(word_dim, width)
        self.attention = MultiheadAttention(embed_dim=width, num_heads=num_heads)
        self.norm = nn.LayerNorm(width)
        self.ffn = FeedForward(embed_dim=width, ffn_dim=ffn_dim)
        self.out_norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, out_dim)

    def forward(self, tokens: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        """(E, G, W) or (1, G, W) tokens, (E, T, D) words, (E, T) True = no padding -> (E, G, out_dim)."""
        keys = self.to_key(words)
        blocked = ~mask[:, None].expand(-1, tokens.shape[1], -1)
        tokens = self.norm(tokens + self.attention(tokens, keys, keys, attn_mask=blocked))
        return self.out(self.out_norm(tokens + self.ffn(tokens)))
