"""Words into feature maps: pixel-word attention, once for each map (the attention of LAVT, arXiv 2112.02244, eq. 1-5).

B images, E expressions, T words of an expression, D word width, N pixels of a map, C its channels; (H, W) the size of
the mask features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from partglee.modeling.photo_model import Words
from partglee.ops.masks import mask_logits


class PixelSide(NamedTuple):
    """What a fusion block needs of a map, whatever the expression: computed once for an image."""

    visual: Tensor  # (B, C, N)
    query: Tensor  # (B, C, N), normalised over the pixels


class WordMemory(NamedTuple):
    """What the words of each expression add to what all expressions of an image share.

    The mask features gain `weight` times the finest map plus `bias`, brought to their size. That is linear, as masks
    are in the features, so that it stays apart until masks are made: (E, C, H, W) is not needed for them.
    """

    levels: tuple[Tensor, ...]  # (E, h*w, C) for each level of the memory, coarse to fine
    size: tuple[int, int]  # (h, w) of the finest
    weight: Tensor  # (C, C)
    bias: Tensor  # (C,)

    def mask_logits(self, mask_embed: Tensor, size: tuple[int, int]) -> Tensor:
        """(E, M, C) embeddings -> what the words add to their logits, (E, M, H, W)."""
        logits = mask_logits(mask_embed @ self.weight, self._finest())
        logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        return logits + (mask_embed @ self.bias)[..., None, None]

    def mask_features(self, size: tuple[int, int], smaller: Sequence[tuple[int, int]]) -> list[Tensor]:
        """What is added to mask features (H, W) once these are resized: (E, C, h, w) for each of the smaller sizes."""
        full = F.interpolate(self._finest(), size=size, mode="bilinear", align_corners=False)
        resized = [F.interpolate(full, size=one, mode="bilinear", align_corners=False) for one in smaller]
        return [F.linear(x.permute(0, 2, 3, 1), self.weight, self.bias).permute(0, 3, 1, 2) for x in resized]

    def _finest(self) -> Tensor:
        """(E, C, h, w), channels last in memory, which resizes several times as fast."""
        return self.levels[-1].unflatten(1, self.size).permute(0, 3, 1, 2)


class WordFusion(nn.Module):
    """Every pixel reads the words, and its own channels weigh what it has read.

    Args:
        dim: channels of the map.
        word_dim: width of the words.
        apart: what is read is normalised over the pixels (released), which leaves how they differ; False: what all of
            them read alike stays, so that a sentence says something to every pixel from the first step on.
        words_first: project the T words instead of what the N pixels have read of them. Attention rows sum to one, so
            this is the same but for rounding, at a fraction of the cost; but where attention is nearly even, the norm
            behind it enlarges rounding by hundreds, so released weights keep their order, to the layout in memory.
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
        side = PixelSide(F.gelu(self.visual(pixels)), normalised_over_pixels(self.query(pixels)))
        if not self.words_first:
            return side
        return PixelSide(*(x.transpose(1, 2).contiguous().transpose(1, 2) for x in side))  # as its products read it

    def forward(self, side: PixelSide, words: Words) -> Tensor:
        """E pixel sides (1 = the same for all) and E expressions -> fused map (E, N, C)."""
        return self.norm(self.residual(side, words))

    def residual(self, side: PixelSide, words: Words) -> Tensor:
        """What pixels take from the words, (E, N, C), before the norm."""
        if self.words_first:
            return self._of_words_first(side, words)
        states = words.states.transpose(1, 2)
        attention = self._attention(side, self.key(states), words.mask)
        read = self.out((attention @ self.value(states).transpose(1, 2)).transpose(1, 2))
        if self.apart:
            read = normalised_over_pixels(read)
        return F.gelu(self.join(side.visual * read)).transpose(1, 2)

    def _of_words_first(self, side: PixelSide, words: Words) -> Tensor:
        key, value = (_each(layer, words.states) for layer in (self.key, self.value))  # (E, T, C)
        read = self._attention(side, key.transpose(1, 2), words.mask) @ _each(self.out, value)
        if self.apart:
            read = normalised_over_pixels(read.transpose(1, 2)).transpose(1, 2)
        return F.gelu(_each(self.join, side.visual.transpose(1, 2) * read))

    def _attention(self, side: PixelSide, key: Tensor, mask: Tensor) -> Tensor:
        """Keys (E, C, T) -> how much each pixel takes of each word, (E, N, T)."""
        logits = side.query.transpose(1, 2).expand(len(key), -1, -1) @ key * key.shape[1] ** -0.5
        return logits.masked_fill(~mask[:, None], float("-inf")).softmax(dim=-1)


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


def _each(conv: nn.Conv1d, x: Tensor) -> Tensor:
    """A convolution of size 1 over (E, N, C) as the matrix product that it is: a few words convolve slowly."""
    return F.linear(x, conv.weight[..., 0], conv.bias)


def normalised_over_pixels(x: Tensor) -> Tensor:
    """(B, C, N) with mean 0 and variance 1 over the N pixels of each channel; one pixel alone gives zero."""
    return F.instance_norm(x) if x.shape[-1] > 1 else torch.zeros_like(x)
