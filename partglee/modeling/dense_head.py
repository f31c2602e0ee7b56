"""A second classifier of the memory, which a dense detector teaches while the model is trained (Hinton et al., arXiv
1503.02531; an auxiliary head beside the decoder as in Co-DETR, arXiv 2211.12860).

The decoder is taught through few queries, each by one target. Scores at every place teach the encoder faster what
things look like. The head has weights of its own, so that it does not pull many tokens of one object into query
selection, and nothing reads it in inference.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from partglee.structures import PixelFeatures


class DenseHead(nn.Module):
    """Scores every memory token against the names: a dot product with their embeddings, as at the queries.

    Args:
        prior_prob: the probability that scores start at.
    """

    def __init__(self, *, embed_dim: int, prior_prob: float = 0.01) -> None:
        super().__init__()
        self.proj = nn.Linear(embed_dim, embed_dim)
        self.norm = nn.LayerNorm(embed_dim)
        self.class_proj = nn.Parameter(torch.empty(embed_dim, embed_dim))
        self.class_bias = nn.Parameter(torch.tensor(-math.log((1 - prior_prob) / prior_prob)))
        nn.init.normal_(self.class_proj, std=embed_dim**-0.5)

    def forward(self, pixels: PixelFeatures, names: Tensor) -> tuple[Tensor, ...]:
        """(C, E) names -> logits (B, C, h, w) of each level, fine to coarse."""
        classifier = self.class_proj.to(names.dtype) @ names.t()
        logits = self.norm(self.proj(pixels.memory)) @ classifier.to(pixels.memory.dtype) + self.class_bias
        return tuple(pixels._replace(memory=logits).maps()[::-1])
