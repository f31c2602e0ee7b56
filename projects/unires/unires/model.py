"""The whole model: images and expressions in, one map of logits for each expression out.

B images, E expressions (image_of says whose), T words, H x W the canvas.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from partglee.layers import sine_position_map
from partglee.modeling.backbone import Backbone
from partglee.modeling.photo_model import SentenceModel, Words, of_sentences
from partglee.structures import ImageBatch
from partglee.text import TextBackend
from unires.decoder import DynamicProjection, LinearProjection, VisionLanguageDecoder, sentence_state
from unires.grouping import LanguageFilter
from unires.image_side import ClipImageSide, ImageSide, MapImageSide


class UniRES(SentenceModel):
    """Referring segmentation of objects and of parts by one model (arXiv 2312.08007).

    Args:
        text_encoder: ids and mask (E, T) -> word states (E, T, D); `tokenize(texts, context_length=)` makes them.
        context_length: T, begin and end included (paper: 17, for long sentences 22).
        filters: a language filter for each level of group tokens that the image side has.
        pixel_mean, pixel_std: three numbers each, in 0..255.
    """

    def __init__(
        self,
        *,
        image_side: ClipImageSide | MapImageSide,
        text_encoder: TextBackend,
        filters: dict[str, LanguageFilter],
        decoder: VisionLanguageDecoder,
        projection: LinearProjection | DynamicProjection,
        context_length: int = 17,
        pixel_mean: Sequence[float] = (122.771, 116.746, 104.094),
        pixel_std: Sequence[float] = (68.501, 66.632, 70.323),
        size_divisibility: int = 32,
    ) -> None:
        super().__init__(pixel_mean=pixel_mean, pixel_std=pixel_std, size_divisibility=size_divisibility)
        if set(filters) != set(image_side.groups.levels):
            raise ValueError(f"filters must be those of levels {image_side.groups.levels}, got {tuple(filters)}")
        if context_length < 3:
            raise ValueError(f"context_length holds begin, end and at least one word, got {context_length}")
        self.image_side = image_side
        self.text_encoder = text_encoder
        self.filters = nn.ModuleDict(filters)
        self.decoder = decoder
        self.projection = projection
        self.context_length = context_length

    @property
    def padded_to(self) -> int:
        return self.context_length

    @property
    def anchor(self) -> Tensor:
        return self.decoder.norm.weight

    @property
    def backbone(self) -> Backbone:
        """Where there is one: of the library's image side.

        Raises:
            ValueError: when the image side is CLIP's transformer.
        """
        if not isinstance(self.image_side, MapImageSide):
            raise ValueError(
                "MODEL.BACKBONE is of MODEL.IMAGE.SOURCE pixel_decoder; weights of a CLIP model go into MODEL.WEIGHTS"
            )
        return self.image_side.backbone

    def encode_image(self, images: ImageBatch | Tensor) -> ImageSide:
        """Everything that the expressions of an image share."""
        encoded: ImageSide = self.image_side(images if isinstance(images, Tensor) else images.tensor)
        return encoded

    def decode(self, encoded: ImageSide, words: Words, image_of: Tensor) -> Tensor:
        """Encoded images and E expressions, (E,) `image_of` the row of each one's image -> (E, h, w) logits."""
        if len(image_of) != len(words.states):
            raise ValueError(f"expected the image of each of {len(words.states)} expressions, got {len(image_of)}")
        filtered = [
            self.filters[level](of_sentences(tokens, image_of), words.states, words.mask)
            for level, tokens in encoded.groups.items()
        ]
        dim = self.decoder.norm.normalized_shape[0]
        h, w = encoded.grid
        places = sine_position_map(h, w, dim, device=self.device).to(encoded.tokens.dtype)
        x = self.decoder(
            of_sentences(encoded.tokens, image_of),
            places,
            words.states,
            words.mask,
            torch.cat(filtered, dim=1) if filtered else None,
        )
        return self.projection(x, encoded.grid, sentence_state(words.states, words.mask))
