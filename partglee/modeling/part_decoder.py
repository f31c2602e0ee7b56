"""Part level: the Q-Former, which parses object queries into part queries (PartGLEE, section 3.2), and the deformable
decoder with weights of its own.

B images, K objects, L parsing queries, P = K * L part queries, E width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from partglee.layers import FeedForward, MultiheadAttention
from partglee.modeling.decoder import DeformableDecoder, ProposedQueries, decode
from partglee.modeling.heads import PredictionHeads
from partglee.structures import DecoderOutput, DenoisingQueries, PartQueries, PixelFeatures, TextEmbeddings


class QFormerLayer(nn.Module):
    """Self-attention among one object's parsing queries, attention to that object, feed-forward.

    The object is the only key, so attending to it means adding one projected vector. The query and key projections
    there are carried for the checkpoint's sake and play no role.
    """

    def __init__(self, *, embed_dim: int, num_heads: int, ffn_dim: int) -> None:
        super().__init__()
        self.self_attn = MultiheadAttention(embed_dim=embed_dim, num_heads=num_heads)
        self.self_norm = nn.LayerNorm(embed_dim)
        self.object_attn = MultiheadAttention(embed_dim=embed_dim, num_heads=num_heads)
        self.object_norm = nn.LayerNorm(embed_dim)
        self.ffn = FeedForward(embed_dim=embed_dim, ffn_dim=ffn_dim)
        self.ffn_norm = nn.LayerNorm(embed_dim)

    def forward(self, queries: Tensor, position: Tensor, objects: Tensor) -> Tensor:
        """queries (N, L, E), position (L, E), objects (N, E) -> (N, L, E)."""
        query = queries + position
        queries = self.self_norm(queries + self.self_attn(query, query, queries))
        queries = self.object_norm(queries + self.object_attn.single_key(objects).unsqueeze(1))
        return self.ffn_norm(queries + self.ffn(queries))


class QFormer(nn.Module):
    """Parses each object query on its own: no image features, no boxes."""

    def __init__(
        self, *, embed_dim: int, num_parsing_queries: int, num_layers: int, num_heads: int, ffn_dim: int
    ) -> None:
        super().__init__()
        self.content = nn.Parameter(torch.randn(num_parsing_queries, embed_dim))
        self.position = nn.Parameter(torch.randn(num_parsing_queries, embed_dim))
        self.layers = nn.ModuleList(
            QFormerLayer(embed_dim=embed_dim, num_heads=num_heads, ffn_dim=ffn_dim) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(embed_dim)

    def forward(self, object_queries: Tensor, rows: Tensor) -> PartQueries:
        """(B, Q, E) object queries and (B, K) rows to parse -> (B, K * L, E) part queries with their parents."""
        width = object_queries.shape[-1]
        chosen = object_queries.gather(1, rows.unsqueeze(-1).expand(-1, -1, width)).flatten(0, 1)
        parsed = self.parse(chosen)
        length = parsed.shape[1]
        return PartQueries(
            parsed.reshape(len(rows), rows.shape[1] * length, width), rows.repeat_interleave(length, dim=1)
        )

    def parse(self, objects: Tensor) -> Tensor:
        """(N, E) object queries -> (N, L, E) part queries of each."""
        queries = self.content.to(objects.dtype).expand(len(objects), -1, -1)
        for layer in self.layers:
            queries = layer(queries, self.position, objects)
        return self.norm(queries)


class PartDecoder(nn.Module):
    """Refines part queries. Their first boxes come from the queries alone: no anchor, no parent box.

    Args:
        run: part queries of one object, L, attend to each other alone, so that what is parsed beside an object changes
            nothing about its parts; None = all part queries of an image attend to each other (released).
    """

    def __init__(
        self, *, embed_dim: int, decoder: DeformableDecoder, heads: PredictionHeads, run: int | None = None
    ) -> None:
        super().__init__()
        self.run = run
        self.proj = nn.Linear(embed_dim, embed_dim)
        self.norm = nn.LayerNorm(embed_dim)
        self.decoder = decoder
        self.heads = heads

    def forward(
        self,
        parts: PartQueries,
        pixels: PixelFeatures,
        text: TextEmbeddings,
        denoising: DenoisingQueries | None = None,
        *,
        every_layer: bool = False,
    ) -> DecoderOutput:
        """Predict parts; with `every_layer` also what deep supervision needs."""
        return decode(
            self.propose(parts.content),
            pixels,
            text.parts,
            decoder=self.decoder,
            heads=self.heads,
            denoising=denoising,
            run=self.run,
            every_layer=every_layer,
        )

    def propose(self, content: Tensor) -> ProposedQueries:
        """(B, P, E) part queries -> the same with their first boxes."""
        start = self.norm(self.proj(content))
        return ProposedQueries(start, self.heads.box_offsets(start).sigmoid())
