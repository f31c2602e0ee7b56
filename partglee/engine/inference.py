"""The model around its post-processing: resized images to predictions in the pixels of the images as they were.

B images of one canvas, (H, W) an image as it was, (h, w) as the network sees it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from partglee.engine.batches import rows_of_a_canvas
from partglee.engine.precision import autocast
from partglee.modeling import PartGLEE
from partglee.modeling.frame import Frame
from partglee.modeling.postprocess import PostprocessOptions, postprocess_image
from partglee.structures import ImageBatch, ModelOutput, PixelFeatures, Prediction, TextEmbeddings, Vocabulary


@dataclass(kw_only=True, eq=False)
class EncodedBatch:
    """What the network says of images before it reads any text.

    The pixel decoder's output is kept as well once a vocabulary has asked for it, as long as no text is fused into it.
    """

    batch: ImageBatch
    maps: list[Tensor]  # the backbone's, (B, C_i, H/2^i, W/2^i), i = 2..5
    pixels: PixelFeatures | None = None  # without text


def predict_resized(
    model: PartGLEE,
    images: Sequence[Tensor],
    original_sizes: Sequence[tuple[int, int]],
    vocabulary: Vocabulary,
    options: PostprocessOptions | None = None,
    *,
    precision: str = "float32",
) -> list[Prediction]:
    """Predict images that somebody else has read and resized.

    >>> found = predict_resized(model, [image], [(480, 640)], Vocabulary.parse("car: wheel"))  # doctest: +SKIP

    Args:
        model: in evaluation mode.
        images: (3, h, w) RGB in 0..255 of any sizes, any numeric dtype. Those that need one canvas go through the
            network together; an image gives the same alone and among others, up to rounding.
        original_sizes: (H, W) of each, which boxes and masks are given in.
        options: what is kept.
        precision: `float32`, or `bfloat16` / `float16` / `mixed` (bfloat16 after the backbone) for autocast.

    Raises:
        ValueError: for images that are no (3, h, w), or another number of sizes.
    """
    if len(images) != len(original_sizes):
        raise ValueError(f"expected a size for each of {len(images)} images, got {len(original_sizes)}")
    text = model.embed(vocabulary)  # in full precision: it is cached, and shared by every image
    found: dict[int, Prediction] = {}
    sides = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
    for rows in rows_of_a_canvas(sides, divisibility=model.size_divisibility):
        encoded = encode_images(model, [images[row] for row in rows], precision=precision)
        sizes = [original_sizes[row] for row in rows]
        found.update(zip(rows, detect(model, encoded, text, vocabulary, sizes, options, precision), strict=True))
    return [found[row] for row in range(len(images))]


@torch.no_grad()  # not inference_mode: the user may change what is returned in place
def encode_images(model: PartGLEE, images: Sequence[Tensor], *, precision: str = "float32") -> EncodedBatch:
    """The image side of the network: (3, h, w) RGB images in 0..255, on one canvas."""
    batch = model.batch(images)
    with autocast(model.device, precision, backbone=True):
        return EncodedBatch(batch=batch, maps=model.backbone(batch.tensor))


@torch.no_grad()
def decode_images(
    model: PartGLEE, encoded: EncodedBatch, text: TextEmbeddings, *, precision: str = "float32"
) -> ModelOutput:
    """What the model says of encoded images and a text: names for all of them, or several expressions of one image."""
    decoder = model.pixel_decoder
    with autocast(model.device, precision):
        if text.tokens is not None and decoder.fusion is not None:
            pixels = decoder(encoded.maps, text.tokens, text.token_mask)
        else:
            if encoded.pixels is None:
                encoded.pixels = decoder(encoded.maps)
            pixels = encoded.pixels
        if text.expressions:
            pixels = pixels.expand(len(text.objects))
        output: Any = model.decode(pixels, text)
    return output


@torch.no_grad()
def detect(
    model: PartGLEE,
    encoded: EncodedBatch,
    text: TextEmbeddings,
    vocabulary: Vocabulary,
    original_sizes: Sequence[tuple[int, int]],
    options: PostprocessOptions | None = None,
    precision: str = "float32",
) -> Iterator[Prediction]:
    """A prediction for each encoded image, made as it is read: the masks of one image are in memory at a time.

    Args:
        text: of the vocabulary, by `model.embed`.
        original_sizes: (H, W) of each image.
    """
    options, batch = options or PostprocessOptions(), encoded.batch
    output = decode_images(model, encoded, text, precision=precision)
    for i, (resized, original) in enumerate(zip(batch.sizes, original_sizes, strict=True)):
        frame = Frame(batch.canvas, resized, (int(original[0]), int(original[1])))
        yield postprocess_image(output, i, vocabulary, frame, options)
