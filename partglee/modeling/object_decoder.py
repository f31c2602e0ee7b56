"""Object level: query selection, which turns the best memory tokens into object queries, and the deformable decoder
(MaskDINO, arXiv 2206.02777, section 3).

B images, S memory tokens, Q queries, C names, E width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from partglee.layers import pixel_centres
from partglee.modeling.decoder import DeformableDecoder, ProposedQueries, decode
from partglee.modeling.dense_head import DenseHead
from partglee.modeling.heads import PredictionHeads
from partglee.structures import DecoderOutput, DenoisingQueries, PixelFeatures, TextEmbeddings


class MemoryTokens(NamedTuple):
    """The memory as query selection scores it."""

    tokens: Tensor  # (B, S, E) normalised
    anchors: Tensor  # (1, S, 4) box logits, +inf where a coordinate leaves (0.01, 0.99)


class QuerySelection(nn.Module):
    """Scores every memory token against the names and keeps the best.

    Each token proposes an anchor box at its pixel. Side lengths double per level **in memory order**, coarse to fine,
    so that the finest level has the largest anchors: inherited by the released weights, which expect it.
    """

    def __init__(self, *, embed_dim: int, num_queries: int, anchor_size: float = 0.05) -> None:
        super().__init__()
        self.num_queries = num_queries
        self.anchor_size = anchor_size
        self.proj = nn.Linear(embed_dim, embed_dim)
        self.norm = nn.LayerNorm(embed_dim)

    def forward(
        self, pixels: PixelFeatures, heads: PredictionHeads, names: Tensor, active: Tensor | None = None
    ) -> ProposedQueries:
        """Keep the best `num_queries` tokens, or all of them where the image has fewer.

        Args:
            names: (C, E), or (B, C, E) where names differ between images.
            active: (B, C) bool, names that may be found in each image; None = all.
        """
        memory = self.read(pixels)
        return self.propose(memory, heads, self.rank(memory, heads, names, active))

    def read(self, pixels: PixelFeatures) -> MemoryTokens:
        """What does not depend on names: the memory as it is scored, and the anchor of each of its rows."""
        anchors, valid = self.anchors(pixels.level_sizes, pixels.memory.device)
        return MemoryTokens(self.norm(self.proj(pixels.memory * valid.to(pixels.memory.dtype))), anchors)

    @torch.no_grad()  # a rank has no gradient
    def rank(self, memory: MemoryTokens, heads: PredictionHeads, names: Tensor, active: Tensor | None = None) -> Tensor:
        """(B, Q) rows of the memory, best first. The tokens of one image serve names (B, C, E) of several questions."""
        if names.ndim == 3 and len(memory.tokens) == 1 < len(names):
            logits = heads.score(memory.tokens, names.flatten(0, 1)).float()  # (1, S, B * C): the tokens are read once
            logits = logits[0].unflatten(-1, names.shape[:2]).transpose(0, 1)
        else:
            logits = heads.score(memory.tokens, names).float()
        if active is not None:
            logits = logits.masked_fill(~active[:, None], float("-inf"))
        best = logits.max(dim=-1).values
        return best.topk(min(self.num_queries, best.shape[1]), dim=1).indices

    def propose(self, memory: MemoryTokens, heads: PredictionHeads, rows: Tensor) -> ProposedQueries:
        """(B, Q) rows of the memory -> queries."""
        tokens = memory.tokens.expand(len(rows), -1, -1)
        content = tokens.gather(1, rows.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))
        anchor_logits = memory.anchors.expand(len(rows), -1, -1).gather(1, rows.unsqueeze(-1).expand(-1, -1, 4))
        return ProposedQueries(content, (heads.box_offsets(content) + anchor_logits).sigmoid())

    def anchors(self, level_sizes: tuple[tuple[int, int], ...], device: torch.device) -> tuple[Tensor, Tensor]:
        """(1, S, 4) anchor box logits, +inf where a coordinate leaves (0.01, 0.99), and (1, S, 1) which are inside."""
        boxes = []
        for level, (h, w) in enumerate(level_sizes):
            y, x = pixel_centres(h, device=device), pixel_centres(w, device=device)
            centre = torch.stack((x.expand(h, w), y[:, None].expand(h, w)), dim=-1)
            size = torch.full_like(centre, self.anchor_size * 2.0**level)
            boxes.append(torch.cat((centre, size), dim=-1).reshape(-1, 4))
        box = torch.cat(boxes)[None]
        valid = ((box > 0.01) & (box < 0.99)).all(dim=-1, keepdim=True)
        return (box / (1 - box)).log().masked_fill(~valid, float("inf")), valid


class ObjectDecoder(nn.Module):
    """Selects object queries from the memory and refines them.

    Args:
        dense_head: what a dense teacher trains the memory through; read in training alone, and not for expressions.
    """

    def __init__(
        self,
        *,
        selection: QuerySelection,
        decoder: DeformableDecoder,
        heads: PredictionHeads,
        dense_head: DenseHead | None = None,
    ) -> None:
        super().__init__()
        self.selection = selection
        self.decoder = decoder
        self.heads = heads
        self.dense_head = dense_head

    def forward(
        self,
        pixels: PixelFeatures,
        text: TextEmbeddings,
        denoising: DenoisingQueries | None = None,
        *,
        every_layer: bool = False,
    ) -> DecoderOutput:
        """Predict objects; with `every_layer` also what deep supervision needs."""
        # An expression is a name of one image only, so each image scores its own: (B, 1, E) instead of (C, E).
        names = text.objects.unsqueeze(1) if text.expressions else text.objects
        rank_by, active = (names, None) if text.expressions else (text.objects, text.active)
        if text.selection is not None:
            rank_by, active = text.selection, None
        selected = self.selection(pixels, self.heads, rank_by, active)
        found = decode(
            selected,
            pixels,
            names,
            decoder=self.decoder,
            heads=self.heads,
            denoising=denoising,
            tokens=text.tokens if text.expressions else None,
            token_mask=text.token_mask,
            detach_content=True,
            every_layer=every_layer,
        )
        if self.dense_head is not None and every_layer and not text.expressions:
            found = found._replace(dense=self.dense_head(pixels, text.objects))
        return found.shifted(text.object_shift)
