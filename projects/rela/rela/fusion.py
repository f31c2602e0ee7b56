"""Words into feature maps: pixel-word attention, once for each map (the attention of LAVT, arXiv 2112.02244, eq. 1-5).

B images, E expressions, T words of an expression, D word width, N pixels of a map, C its channels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Words(NamedTuple):
    """Expressions as the text tower leaves them."""

    states: Tensor  # (E, T, D)
    mask: Tensor  # (E, T) bool, True = a word, its begin or its end; False = padding


class PixelSide(NamedTuple):
    """What a fusion block needs of a map, whatever the expression: computed once for an image."""

    visual: Tensor  # (B, C, N)
    query: Tensor  # (B, C, N), normalised over the pixels


class WordFusion(nn.Module):
    """Every pixel reads the words, and its own channels weigh what it has read.

    Args:
        dim: channels of the map.
        word_dim: width of the words.
        apart: what is read is normalised over the pixels (released), which leaves how they differ; False: what all of
            them read alike stays, so that a sentence says something to every pixel from the first step on.
        words_first: project the T words instead of what the N pixels have read of them. Attention rows sum to one, so
            this is the same but for rounding, at a fraction of the cost; but where attention is nearly even, the norm
            behind it enlarges rounding by hundreds, so released weights keep their order.
    """

    def __init__(self, *, dim: int, word_dim: int, apart: bool = True, words_first: bool = False) -> None:
        super().__init__()
        self.apart = apart
        self.words_first = words_first
        self.visual = nn.Conv1d(dim, dim, 1)
        self.query = nn.Conv1d(dim, dim, 1)
        self.key = nn.Conv1d(word_dim, dim, 1)
        self.value = nn.Conv1d(word_dim, dim, 1)
        self.out = nn.Conv1d(dim, dim, 1)
        self.join = nn.Conv1d(dim, dim, 1)
        self.norm = nn.LayerNorm(dim)

    def prepare(self, pixels: Tensor) -> PixelSide:
        """(B, C, N) -> the half of the work that does not know the words."""
        return PixelSide(F.gelu(self.visual(pixels)), normalised_over_pixels(self.query(pixels)))

    def forward(self, side: PixelSide, words: Words) -> Tensor:
        """E pixel sides (1 = the same for all) and E expressions -> fused map (E, N, C)."""
        return self.norm(self.residual(side, words))

    def residual(self, side: PixelSide, words: Words) -> Tensor:
        """What pixels take from the words, (E, N, C), before the norm."""
        states = words.states.transpose(1, 2)
        key, value = self.key(states), self.value(states)  # (E, C, T)
        if self.words_first:
            value = self.out(value)
        logits = side.query.transpose(1, 2).expand(len(key), -1, -1) @ key * key.shape[1] ** -0.5
        attention = logits.masked_fill(~words.mask[:, None], float("-inf")).softmax(dim=-1)
        read = (attention @ value.transpose(1, 2)).transpose(1, 2)
        if not self.words_first:
            read = self.out(read)
        if self.apart:
            read = normalised_over_pixels(read)
        return F.gelu(self.join(side.visual * read)).transpose(1, 2)


class Gate(nn.Module):
    """How much of what the words have said the next stage of the backbone sees.

    The released code starts both layers at zero, which leaves both without gradient: its gate stays closed for ever,
    and the backbone is the same for all expressions of an image. Here only the second starts at zero, and can open.
    """

    def __init__(self, *, dim: int) -> None:
        super().__init__()
        self.inner = nn.Linear(dim, dim, bias=False)
        self.outer = nn.Linear(dim, dim, bias=False)
        nn.init.zeros_(self.outer.weight)

    def forward(self, residual: Tensor) -> Tensor:
        """(E, N, C) -> what to add to the stage's output, (E, N, C)."""
        return torch.tanh(self.outer(F.relu(self.inner(residual)))) * residual


def normalised_over_pixels(x: Tensor) -> Tensor:
    """(B, C, N) with mean 0 and variance 1 over the N pixels of each channel; one pixel alone gives zero."""
    return F.instance_norm(x) if x.shape[-1] > 1 else torch.zeros_like(x)
