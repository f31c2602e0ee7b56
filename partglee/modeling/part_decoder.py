"""Part level: the same deformable decoder, with weights of its own, started from parsed queries (spec section 1.7).

B images, P = K * L part queries, M denoising queries, E width.
"""

from __future__ import annotations

import torch
from torch import nn

from partglee.modeling.decoder import DeformableDecoder, predict_layers
from partglee.modeling.denoising import denoising_mask
from partglee.modeling.heads import PredictionHeads
from partglee.structures import DecoderOutput, DenoisingQueries, PartQueries, PixelFeatures, TextEmbeddings


class PartDecoder(nn.Module):
    """Refines part queries. Their first boxes come from the queries alone: no anchor, no parent box."""

    def __init__(self, *, embed_dim: int, decoder: DeformableDecoder, heads: PredictionHeads) -> None:
        super().__init__()
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
        start = self.norm(self.proj(parts.content))
        boxes = self.heads.box_offsets(start).sigmoid()
        content, reference = start, boxes.detach()
        num_noised = 0
        attn_mask = None
        if denoising is not None:
            num_noised = denoising.content.shape[1]
            content = torch.cat((denoising.content.to(content.dtype), content), dim=1)
            reference = torch.cat((denoising.boxes, reference), dim=1)
            attn_mask = denoising_mask(denoising.group, start.shape[1])
        states = self.decoder(content, reference, pixels, self.heads, attn_mask=attn_mask, every_layer=every_layer)
        layers = predict_layers(states, self.heads, text.parts, rows=slice(num_noised, None))
        if not every_layer:
            return DecoderOutput(states.queries[-1], layers)
        return DecoderOutput(
            queries=states.queries[-1][:, num_noised:],
            layers=layers,
            proposals=self.heads.predict(start, boxes, text.parts),
            denoising=predict_layers(states, self.heads, text.parts, rows=slice(num_noised), masks=False)
            if denoising is not None
            else (),
            denoising_source=None if denoising is None else denoising.source,
        )
