"""The deformable decoder that both levels use (spec sections 1.5 and 1.7).

B images, Q queries (denoising queries first), S memory tokens, T expression tokens, E width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from partglee.layers import MLP, FeedForward, MSDeformAttn, MultiheadAttention, sine_position_boxes
from partglee.modeling.heads import PredictionHeads
from partglee.structures import LayerPrediction, PixelFeatures


class DecoderLayer(nn.Module):
    """Self-attention, deformable cross-attention, feed-forward; each followed by its norm."""

    def __init__(self, *, embed_dim: int, num_heads: int, num_levels: int, num_points: int, ffn_dim: int) -> None:
        super().__init__()
        self.self_attn = MultiheadAttention(embed_dim=embed_dim, num_heads=num_heads)
        self.self_norm = nn.LayerNorm(embed_dim)
        self.cross_attn = MSDeformAttn(
            embed_dim=embed_dim, num_heads=num_heads, num_levels=num_levels, num_points=num_points
        )
        self.cross_norm = nn.LayerNorm(embed_dim)
        self.ffn = FeedForward(embed_dim=embed_dim, ffn_dim=ffn_dim)
        self.ffn_norm = nn.LayerNorm(embed_dim)

    def forward(
        self,
        queries: Tensor,
        position: Tensor,
        reference: Tensor,
        pixels: PixelFeatures,
        attn_mask: Tensor | None,
        tokens: Tensor | None,
    ) -> Tensor:
        """queries, position (B, Q, E); reference (B, Q, 4) cxcywh; attn_mask True = blocked; tokens (B, T, E)."""
        query = key = queries + position
        value = queries
        if tokens is not None:
            # A token is its own position, without gradient (spec section 1.5). Only the queries' rows are kept,
            # so what the tokens would attend to need not be computed.
            key = torch.cat((key, tokens + tokens.detach()), dim=1)
            value = torch.cat((value, tokens), dim=1)
        queries = self.self_norm(queries + self.self_attn(query, key, value, attn_mask))
        attended = self.cross_attn(queries + position, reference.unsqueeze(2), pixels.memory, pixels.level_sizes)
        queries = self.cross_norm(queries + attended)
        return self.ffn_norm(queries + self.ffn(queries))


class DecoderStates(NamedTuple):
    """What the layers leave behind; index 0 is the state before the first layer."""

    queries: tuple[Tensor, ...]  # (B, Q, E) each; after a layer: normalised once
    boxes: tuple[Tensor, ...]  # (B, Q, 4) cxcywh in [0, 1] each


class DeformableDecoder(nn.Module):
    """Layers that refine boxes step by step, with gradients that look forward twice (DINO, arXiv 2203.03605)."""

    def __init__(
        self,
        *,
        embed_dim: int,
        num_layers: int,
        num_heads: int,
        num_levels: int,
        num_points: int,
        ffn_dim: int,
    ) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.layers = nn.ModuleList(
            DecoderLayer(
                embed_dim=embed_dim, num_heads=num_heads, num_levels=num_levels, num_points=num_points, ffn_dim=ffn_dim
            )
            for _ in range(num_layers)
        )
        self.position_mlp = MLP(input_dim=2 * embed_dim, hidden_dim=embed_dim, output_dim=embed_dim, num_layers=2)

    def forward(
        self,
        content: Tensor,
        reference: Tensor,
        pixels: PixelFeatures,
        heads: PredictionHeads,
        *,
        attn_mask: Tensor | None = None,
        tokens: Tensor | None = None,
        every_layer: bool = False,
    ) -> DecoderStates:
        """Refine (B, Q, E) content and (B, Q, 4) reference boxes.

        Args:
            attn_mask: (Q, Q + T) or (B, Q, Q + T) bool, True = blocked.
            tokens: (B, T, E) expression tokens that join the self-attention.
            every_layer: return the states before and after every layer, for deep supervision; else the last alone.
        """
        queries, undetached = content, reference
        all_queries, all_boxes = [queries], [reference]
        for i, layer in enumerate(self.layers):
            reference = undetached.detach()
            encoded = sine_position_boxes(reference, self.embed_dim)
            with torch.autocast(queries.device.type, enabled=False):
                position = self.position_mlp(encoded.to(self.position_mlp.layers[0].weight.dtype))
            queries = layer(queries, position, reference, pixels, attn_mask, tokens)
            last = i + 1 == len(self.layers)
            if every_layer or last:
                normalised = heads.norm(queries)
                all_queries.append(normalised)
                all_boxes.append(heads.boxes(normalised, undetached))
            if not last:
                # The recursion reads the raw state, the reported box the normalised one (spec section 1.5).
                undetached = heads.boxes(queries, reference)
        if not every_layer:
            all_queries, all_boxes = all_queries[-1:], all_boxes[-1:]
        return DecoderStates(tuple(all_queries), tuple(all_boxes))


def predict_layers(
    states: DecoderStates, heads: PredictionHeads, names: Tensor, *, rows: slice = slice(None), masks: bool = True
) -> tuple[LayerPrediction, ...]:
    """Apply the heads to some rows of every returned state."""
    return tuple(
        heads.predict(q[:, rows], b[:, rows], names, masks=masks)
        for q, b in zip(states.queries, states.boxes, strict=True)
    )
