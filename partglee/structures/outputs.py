"""What the decoders predict.

B images, Q queries, C names of one level, E width, K objects kept, L parsing queries, h x w the stride-4 map.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from partglee.structures.text import TextEmbeddings


class LayerPrediction(NamedTuple):
    """Q queries scored against the names of one level.

    Masks stay factored: mask logits = mask_embed . mask_features (PartGLEE Eq. 1), so that each consumer computes
    only the rows and points that it needs (`partglee.ops.masks`).
    """

    logits: Tensor  # (B, Q, C) before sigmoid
    boxes: Tensor  # (B, Q, 4) cxcywh in [0, 1] of the padded canvas
    mask_embed: Tensor | None  # (B, Q, E); None where masks were not requested


class DecoderOutput(NamedTuple):
    """One level's decoder. At inference `layers` holds the last layer alone and the training-only fields are None."""

    queries: Tensor  # (B, Q, E) after the last layer, normalised once
    layers: tuple[LayerPrediction, ...]  # initial prediction first, final one last
    proposals: LayerPrediction | None = None  # query selection, or the part queries before the decoder
    denoising: tuple[LayerPrediction, ...] = ()  # the same layers for the M denoising queries
    denoising_source: Tensor | None = None  # (B, M) target row of each denoising query, -1 = padding
    dense: tuple[Tensor, ...] | None = None  # (B, C, h, w) logits of the memory, fine to coarse; for `DenseScores`

    def shifted(self, shift: Tensor | None) -> DecoderOutput:
        """With (C,) added to the logits of the last layer; None = as it is."""
        if shift is None:
            return self
        last = self.layers[-1]
        return self._replace(layers=(*self.layers[:-1], last._replace(logits=last.logits + shift)))


class ModelOutput(NamedTuple):
    """Both levels. `parts` and `parent` are None when the vocabulary has no part names."""

    objects: DecoderOutput
    parts: DecoderOutput | None
    parent: Tensor | None  # (B, K * L) long, row in objects of the parent of each part query
    text: TextEmbeddings
    mask_features: Tensor  # (B, E, h, w)
