"""Object level: query selection and the deformable decoder (spec section 1.5).

B images, Q queries, M denoising queries, T expression tokens, E width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from partglee.modeling.decoder import DeformableDecoder, predict_layers
from partglee.modeling.denoising import denoising_mask
from partglee.modeling.heads import PredictionHeads
from partglee.modeling.query_selection import QuerySelection
from partglee.structures import DecoderOutput, DenoisingQueries, PixelFeatures, TextEmbeddings


class ObjectDecoder(nn.Module):
    """Selects object queries from the memory and refines them."""

    def __init__(self, *, selection: QuerySelection, decoder: DeformableDecoder, heads: PredictionHeads) -> None:
        super().__init__()
        self.selection = selection
        self.decoder = decoder
        self.heads = heads

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
        active = None if text.expressions else text.active
        selected = self.selection(pixels, self.heads, names, active)
        content, reference = selected.content.detach(), selected.boxes.detach()
        num_noised = 0
        attn_mask = None
        if denoising is not None:
            num_noised = denoising.content.shape[1]
            content = torch.cat((denoising.content.to(content.dtype), content), dim=1)
            reference = torch.cat((denoising.boxes, reference), dim=1)
            attn_mask = denoising_mask(denoising.group, selected.content.shape[1])
        tokens = None
        if text.expressions:
            tokens = text.tokens
            attn_mask = _hide_padding(attn_mask, text.token_mask, content.shape[1])
        states = self.decoder(
            content, reference, pixels, self.heads, attn_mask=attn_mask, tokens=tokens, every_layer=every_layer
        )
        layers = predict_layers(states, self.heads, names, rows=slice(num_noised, None))
        if not every_layer:
            return DecoderOutput(states.queries[-1], layers)
        return DecoderOutput(
            queries=states.queries[-1][:, num_noised:],
            layers=layers,
            proposals=self.heads.predict(selected.content, selected.boxes, names),
            denoising=predict_layers(states, self.heads, names, rows=slice(num_noised), masks=False)
            if denoising is not None
            else (),
            denoising_source=None if denoising is None else denoising.source,
        )


def _hide_padding(attn_mask: Tensor | None, token_mask: Tensor | None, num_queries: int) -> Tensor | None:
    """(B, Q, Q + T) mask in which no query sees a padded token, or sees what `attn_mask` (Q, Q) blocks."""
    if token_mask is None:
        return attn_mask
    pads = ~token_mask[:, None].expand(-1, num_queries, -1)
    if attn_mask is None:
        return F.pad(pads, (num_queries, 0), value=False)
    return torch.cat((attn_mask.expand(len(pads), -1, -1), pads), dim=-1)
