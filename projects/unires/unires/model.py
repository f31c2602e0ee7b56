"""The whole model: images and expressions in, one map of logits for each expression out.

B images, E expressions (image_of says whose), T words, H x W the canvas.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from partglee.layers import sine_position_map
from partglee.modeling.backbone import Backbone
from partglee.structures import ImageBatch, batch_images
from partglee.text import TextBackend
from unires.decoder import DynamicProjection, LinearProjection, VisionLanguageDecoder, sentence_state
from unires.grouping import LanguageFilter
from unires.image_side import ClipImageSide, ImageSide, MapImageSide


class Words(NamedTuple):
    """What E expressions say, word by word."""

    states: Tensor  # (E, T, D)
    mask: Tensor  # (E, T) True = no padding


class UniRES(nn.Module):
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
        super().__init__()
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
        self.pixel_mean = tuple(pixel_mean)
        self.pixel_std = tuple(pixel_std)
        self.size_divisibility = size_divisibility

    @property
    def device(self) -> torch.device:
        return self.decoder.image_proj.weight.device

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

    def batch(self, images: Sequence[Tensor], canvas: tuple[int, int] | None = None) -> ImageBatch:
        """(3, h, w) RGB images in 0..255, normalised and padded to one canvas on the model's device."""
        return batch_images(
            [image.to(self.device) for image in images],
            mean=self.pixel_mean,
            std=self.pixel_std,
            divisibility=self.size_divisibility,
            canvas=canvas,
        )

    def read(self, expressions: Sequence[str]) -> Words:
        """E sentences -> their words, cut at `context_length` tokens."""
        ids, mask = self.text_encoder.tokenize(list(expressions), context_length=self.context_length)
        return self.words(ids.to(self.device), mask.to(self.device))

    def words(self, ids: Tensor, mask: Tensor) -> Words:
        """Token ids (E, T) and their mask (True = no padding) -> word states."""
        return Words(self.text_encoder(ids, mask), mask)

    def forward(self, images: ImageBatch | Tensor, words: Words, image_of: Tensor) -> Tensor:
        """(B, 3, H, W) normalised images, E expressions and (E,) the image of each -> (E, h, w) logits."""
        return self.decode(self.encode_image(images), words, image_of)

    def encode_image(self, images: ImageBatch | Tensor) -> ImageSide:
        """Everything that the expressions of an image share."""
        encoded: ImageSide = self.image_side(images if isinstance(images, Tensor) else images.tensor)
        return encoded

    def decode(self, encoded: ImageSide, words: Words, image_of: Tensor) -> Tensor:
        """Encoded images and E expressions, (E,) `image_of` the row of each one's image -> (E, h, w) logits."""
        if len(image_of) != len(words.states):
            raise ValueError(f"expected the image of each of {len(words.states)} expressions, got {len(image_of)}")
        filtered = [
            self.filters[level](_rows_of(tokens, image_of), words.states, words.mask)
            for level, tokens in encoded.groups.items()
        ]
        dim = self.decoder.norm.normalized_shape[0]
        h, w = encoded.grid
        places = sine_position_map(h, w, dim, device=self.device).to(encoded.tokens.dtype)
        x = self.decoder(
            _rows_of(encoded.tokens, image_of),
            places,
            words.states,
            words.mask,
            torch.cat(filtered, dim=1) if filtered else None,
        )
        return self.projection(x, encoded.grid, sentence_state(words.states, words.mask))


def _rows_of(x: Tensor, image_of: Tensor) -> Tensor:
    """(B, ...) -> (E, ...), each expression's image; (1, ...) where there is only one image, so nothing is copied."""
    return x if len(x) == 1 else x[image_of]
