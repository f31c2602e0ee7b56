"""The deformable decoder that both levels use (PartGLEE, section 3.1; DINO, arXiv 2203.03605).

B images, Q queries (denoising queries first), S memory tokens, T expression tokens, E width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from partglee.layers import MLP, FeedForward, MSDeformAttn, MultiheadAttention, sine_position_boxes
from partglee.modeling.denoising import denoising_mask
from partglee.modeling.heads import PredictionHeads
from partglee.structures import DecoderOutput, DenoisingQueries, LayerPrediction, PixelFeatures


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
        run: int | None = None,
    ) -> Tensor:
        """queries, position (B, Q, E); reference (B, Q, 4) cxcywh; attn_mask True = blocked; tokens (B, T, E); `run`:
        see the decoder."""
        query = key = queries + position
        value = queries
        if run is not None:
            query = key = query.reshape(-1, run, query.shape[-1])
            value = value.reshape(query.shape)
        if tokens is not None:
            # A token is its own position, without gradient, as released. Only the queries' rows are kept,
            # so what the tokens would attend to need not be computed.
            key = torch.cat((key, tokens + tokens.detach()), dim=1)
            value = torch.cat((value, tokens), dim=1)
        queries = self.self_norm(queries + self.self_attn(query, key, value, attn_mask).reshape(queries.shape))
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
        run: int | None = None,
        every_layer: bool = False,
    ) -> DecoderStates:
        """Refine (B, Q, E) content and (B, Q, 4) reference boxes.

        Args:
            attn_mask: (Q, Q + T) or (B, Q, Q + T) bool, True = blocked.
            tokens: (B, T, E) expression tokens that join the self-attention.
            run: queries attend among runs of so many alone, whose states depend on no other; without mask and tokens.
            every_layer: return the states before and after every layer, for deep supervision; else the last alone.
        """
        queries, undetached = content, reference
        all_queries, all_boxes = [queries], [reference]
        for i, layer in enumerate(self.layers):
            reference = undetached.detach()
            encoded = sine_position_boxes(reference, self.embed_dim)
            with torch.autocast(queries.device.type, enabled=False):
                position = self.position_mlp(encoded.to(next(self.position_mlp.parameters()).dtype))
            queries = layer(queries, position, reference, pixels, attn_mask, tokens, run)
            last = i + 1 == len(self.layers)
            if every_layer or last:
                normalised = heads.norm(queries)
                all_queries.append(normalised)
                all_boxes.append(heads.boxes(normalised, undetached))
            if not last:
                # The recursion reads the raw state, the reported box the normalised one, as released.
                undetached = heads.boxes(queries, reference)
        if not every_layer:
            all_queries, all_boxes = all_queries[-1:], all_boxes[-1:]
        return DecoderStates(tuple(all_queries), tuple(all_boxes))


class ProposedQueries(NamedTuple):
    """Q queries with the boxes that they propose, before the first layer."""

    content: Tensor  # (B, Q, E)
    boxes: Tensor  # (B, Q, 4) cxcywh in [0, 1]


def decode(
    proposed: ProposedQueries,
    pixels: PixelFeatures,
    names: Tensor,
    *,
    decoder: DeformableDecoder,
    heads: PredictionHeads,
    denoising: DenoisingQueries | None = None,
    tokens: Tensor | None = None,
    token_mask: Tensor | None = None,
    detach_content: bool = False,
    run: int | None = None,
    every_layer: bool = False,
) -> DecoderOutput:
    """One level, from its proposed queries to its predictions.

    Args:
        names: (C, E), or (B, C, E) where names differ between images.
        denoising: M queries that go before the proposed ones; needs `every_layer`.
        tokens: (B, T, E) expression tokens that join the self-attention.
        token_mask: (B, T) bool, True = valid; None = all.
        detach_content: no gradient from the layers to the proposed content.
        run: proposed queries attend among runs of so many alone; None = among all. Not with tokens.
        every_layer: also what deep supervision needs.
    """
    content = proposed.content.detach() if detach_content else proposed.content
    reference = proposed.boxes.detach()
    num_noised, attn_mask = 0, None
    if denoising is not None:
        num_noised = denoising.content.shape[1]
        attn_mask = denoising_mask(denoising.group, content.shape[1], run)
        run = None  # the mask says it
        content = torch.cat((denoising.content.to(content.dtype), content), dim=1)
        reference = torch.cat((denoising.boxes, reference), dim=1)
    if tokens is not None:
        attn_mask = _hide_padding(attn_mask, token_mask, content.shape[1])
    states = decoder(
        content, reference, pixels, heads, attn_mask=attn_mask, tokens=tokens, run=run, every_layer=every_layer
    )
    queries, noised = slice(num_noised, None), slice(num_noised)
    layers = _predict_layers(states, heads, names, rows=queries)
    if not every_layer:
        return DecoderOutput(states.queries[-1], layers)
    return DecoderOutput(
        queries=states.queries[-1][:, queries],
        layers=layers,
        proposals=heads.predict(proposed.content, proposed.boxes, names),
        denoising=() if denoising is None else _predict_layers(states, heads, names, rows=noised, masks=False),
        denoising_source=None if denoising is None else denoising.source,
    )


def _predict_layers(
    states: DecoderStates, heads: PredictionHeads, names: Tensor, *, rows: slice, masks: bool = True
) -> tuple[LayerPrediction, ...]:
    """Apply the heads to some rows of every returned state."""
    return tuple(
        heads.predict(q[:, rows], b[:, rows], names, masks=masks)
        for q, b in zip(states.queries, states.boxes, strict=True)
    )


def _hide_padding(attn_mask: Tensor | None, token_mask: Tensor | None, num_queries: int) -> Tensor | None:
    """(B, Q, Q + T) mask in which no query sees a padded token, or sees what `attn_mask` (Q, Q) blocks."""
    if token_mask is None:
        return attn_mask
    pads = ~token_mask[:, None].expand(-1, num_queries, -1)
    if attn_mask is None:
        return F.pad(pads, (num_queries, 0), value=False)
    return torch.cat((attn_mask.expand(len(pads), -1, -1), pads), dim=-1)
