"""What every model that is given photos has: pixel statistics, and photos to one batch; what models of sentences share.

B images, E sentences, T words, D word width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from partglee.structures import ImageBatch, batch_images
from partglee.text import TextBackend


class PhotoModel(nn.Module):
    """A module with `batch`.

    Args:
        pixel_mean, pixel_std: three numbers each, in 0..255.
        size_divisibility: of the sides of a batch.
    """

    def __init__(self, *, pixel_mean: Sequence[float], pixel_std: Sequence[float], size_divisibility: int = 32) -> None:
        super().__init__()
        self.pixel_mean = tuple(pixel_mean)
        self.pixel_std = tuple(pixel_std)
        self.size_divisibility = size_divisibility

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def batch(self, images: Sequence[Tensor], canvas: tuple[int, int] | None = None) -> ImageBatch:
        """(3, h, w) RGB images in 0..255, of any sizes, normalised and padded to one canvas on the model's device."""
        return batch_images(
            [image.to(self.device) for image in images],
            mean=self.pixel_mean,
            std=self.pixel_std,
            divisibility=self.size_divisibility,
            canvas=canvas,
        )


class Words(NamedTuple):
    """Sentences as the text tower leaves them."""

    states: Tensor  # (E, T, D)
    mask: Tensor  # (E, T) bool, True = a word, its begin or its end; False = padding


class SentenceModel(PhotoModel):
    """A model that is asked about photos in sentences: a photo is encoded once, whatever is asked of it.

    A subclass has `encode_image(images)`, `decode(encoded, words, image_of)` and `anchor`.

    Attributes:
        text_encoder: ids and mask (E, T) -> word states (E, T, D); `tokenize(texts)` makes them.
    """

    text_encoder: TextBackend

    @property
    def padded_to(self) -> int | None:
        """T of every sentence; None = of the longest that are read together."""
        return None

    @property
    def anchor(self) -> Tensor:
        """A weight that every loss reaches: one without a sentence is zero times its sum."""
        raise NotImplementedError

    def encode_image(self, images: Any) -> Any:
        """Everything that the sentences about (B, 3, H, W) normalised images share."""
        raise NotImplementedError

    def decode(self, encoded: Any, words: Words, image_of: Tensor) -> Any:
        """Encoded images and E sentences, (E,) `image_of` the row of each one's image -> what the model says."""
        raise NotImplementedError

    def forward(self, images: ImageBatch | Tensor, words: Words, image_of: Tensor) -> Any:
        """(B, 3, H, W) normalised images, E sentences and (E,) the image of each."""
        return self.decode(self.encode_image(images), words, image_of)

    def read(self, sentences: Sequence[str]) -> Words:
        """E sentences -> their words."""
        ids, mask = self.text_encoder.tokenize(list(sentences), context_length=self.padded_to)
        return self.words(ids.to(self.device), mask.to(self.device))

    def words(self, ids: Tensor, mask: Tensor) -> Words:
        """Token ids (E, T) and their mask (True = no padding) -> word states."""
        return Words(self.text_encoder(ids, mask), mask)


def of_sentences(x: Tensor, image_of: Tensor) -> Tensor:
    """(B, ...) -> (E, ...), each sentence's image; (1, ...) where there is only one image, so nothing is copied."""
    return x if len(x) == 1 else x[image_of]
