"""Prediction heads of one level (PartGLEE Eq. 1 and 3).

B images, Q queries, C names, E width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from partglee.layers import MLP, at_least_float32, inverse_sigmoid
from partglee.structures import LayerPrediction


class PredictionHeads(nn.Module):
    """Class, box and mask heads, shared by all layers of a decoder and by its proposals.

    Classification is a plain dot product: no temperature, no bias, no norm (PartGLEE Eq. 3).

    Args:
        prior_prob: start the scores at this probability with one learned bias for all names, which training from
            scratch needs; None: no bias (released).
    """

    def __init__(self, *, embed_dim: int, prior_prob: float | None = None) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(embed_dim)
        self.class_proj = nn.Parameter(torch.empty(embed_dim, embed_dim))
        self.mask_mlp = MLP(input_dim=embed_dim, hidden_dim=embed_dim, output_dim=embed_dim, num_layers=3)
        self.box_mlp = MLP(input_dim=embed_dim, hidden_dim=embed_dim, output_dim=4, num_layers=3)
        self.class_bias: nn.Parameter | None = None
        if prior_prob is not None:
            if not 0 < prior_prob < 1:
                raise ValueError(f"prior_prob must lie between 0 and 1, got {prior_prob}; None = no bias")
            self.class_bias = nn.Parameter(torch.tensor(-math.log((1 - prior_prob) / prior_prob)))
        # The released code fills this with uniform [0, 1) and always loads weights over it.
        nn.init.normal_(self.class_proj, std=embed_dim**-0.5)
        for parameter in self.box_mlp.layers[-1].parameters():
            nn.init.zeros_(parameter)

    def classify(self, queries: Tensor, names: Tensor) -> Tensor:
        """(B, Q, E) queries and (C, E) names, or (B, C, E) names that differ between images -> logits (B, Q, C)."""
        return self.score(self.norm(queries), names)

    def score(self, normalised: Tensor, names: Tensor) -> Tensor:
        """`classify` without the norm; query selection scores the memory this way."""
        # (q W) T^T = q (W T^T): the second order costs C x E x E once instead of Q x E x E for each image.
        classifier = self.class_proj.to(names.dtype) @ names.transpose(-1, -2)
        logits = normalised @ classifier.to(normalised.dtype)
        return logits if self.class_bias is None else logits + self.class_bias

    def boxes(self, queries: Tensor, reference: Tensor) -> Tensor:
        """(B, Q, E) queries and (B, Q, 4) reference boxes -> refined boxes (B, Q, 4) cxcywh in [0, 1], float32."""
        return (self.box_offsets(queries) + inverse_sigmoid(at_least_float32(reference))).sigmoid()

    def box_offsets(self, queries: Tensor) -> Tensor:
        """(B, Q, E) -> (B, Q, 4) offsets of box logits; in full precision also under autocast, which costs pixels."""
        with torch.autocast(queries.device.type, enabled=False):
            return self.box_mlp(at_least_float32(queries))

    def mask_embed(self, queries: Tensor) -> Tensor:
        """(B, Q, E) -> (B, Q, E), to be dotted with the mask features."""
        return self.mask_mlp(self.norm(queries))

    def predict(self, queries: Tensor, boxes: Tensor, names: Tensor, *, masks: bool = True) -> LayerPrediction:
        """One layer's prediction from its queries and its already refined boxes."""
        return LayerPrediction(
            self.classify(queries, names).float(), boxes, self.mask_embed(queries) if masks else None
        )

    def class_direction(self, names: Tensor) -> Tensor:
        """(..., E) names -> (..., E) the normalised query that scores highest for each; denoising starts from it."""
        return F.layer_norm(names @ self.class_proj.t().to(names.dtype), (names.shape[-1],))
