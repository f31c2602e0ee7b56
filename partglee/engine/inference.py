"""The model around its post-processing: resized images to predictions in the pixels of the images as they were.

B images of one canvas, (H, W) an image as it was, (h, w) as the network sees it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from partglee.engine.batches import rows_of_a_canvas
from partglee.engine.precision import autocast
from partglee.modeling import PartGLEE
from partglee.modeling.frame import Frame, Rows
from partglee.modeling.pixel_decoder import ProjectedMaps
from partglee.modeling.postprocess import PostprocessOptions, kept_objects, postprocess_image, whole_ones
from partglee.modeling.shared_decoding import SharedDecoding
from partglee.structures import ImageBatch, ModelOutput, PixelFeatures, Prediction, TextEmbeddings, Vocabulary

if TYPE_CHECKING:
    from typing_extensions import Self

_EXPRESSIONS = 8  # at once; each has a memory of its own where early fusion joins it with the image
_NUMBERS_CPU = 1_000_000  # of such memories, 4 MB, which a processor keeps in its caches from one layer to the next

_UNASKED: dict[str, Any] = {"projected": None, "pixels": None, "shared": None, "asked_by": None}


@dataclass(kw_only=True, eq=False)
class EncodedBatch:
    """What the network says of images before it reads any text.

    The pixel decoder's output is kept as well once a vocabulary has asked for it, as long as no text is fused into it.
    What was kept for one model and precision is made anew for another, and is not in a pickle.
    """

    batch: ImageBatch
    maps: list[Tensor]  # the backbone's, (B, C_i, H/2^i, W/2^i), i = 2..5
    projected: ProjectedMaps | None = None  # the same at the pixel decoder's width, where texts are fused into them
    pixels: PixelFeatures | None = None  # without text
    shared: SharedDecoding | None = None  # of one image; what its vocabularies had in common so far
    asked_by: tuple[PartGLEE, str] | None = None  # whom these three belong to, and its precision

    def picked(self, rows: Sequence[int]) -> Self:
        """Some of the images, as if nothing had been asked about them yet."""
        rows = list(rows)
        batch = ImageBatch(self.batch.tensor[rows], tuple(self.batch.sizes[row] for row in rows))
        maps = [level[rows] for level in self.maps]
        return replace(self, batch=batch, maps=maps, **_UNASKED)

    def asked(self, model: PartGLEE, precision: str) -> None:
        """To be called before anything that was kept is read: what another model or precision left is forgotten."""
        owner = self.asked_by
        if owner is None or owner[0] is not model or owner[1] != precision:
            self.projected = self.pixels = self.shared = None
            self.asked_by = (model, precision)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, **_UNASKED}

    def frames(self, original_sizes: Sequence[tuple[int, int]]) -> list[Frame]:
        """The way of each image from the canvas back to its own (H, W)."""
        return [
            Frame(self.batch.canvas, resized, (int(height), int(width)))
            for resized, (height, width) in zip(self.batch.sizes, original_sizes, strict=True)
        ]


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
    encoded.asked(model, precision)
    with autocast(model.device, precision):
        output: ModelOutput = model.decode(_pixels(model, encoded, text), text)
    rows = len(output.objects.queries)  # several expressions may share the features of one image
    return output._replace(mask_features=output.mask_features.expand(rows, -1, -1, -1))


def expressions_at_once(model: PartGLEE, encoded: EncodedBatch) -> int:
    """How many expressions of an image go through the model together."""
    if model.device.type != "cpu" or model.pixel_decoder.fusion is None:
        return _EXPRESSIONS
    height, width = encoded.batch.canvas
    numbers = height * width * model.text_encoder.embed_dim // 48  # of all levels: 1/64 + 1/256 + ...
    return max(1, min(_EXPRESSIONS, _NUMBERS_CPU // numbers))


def _fuses(model: PartGLEE, text: TextEmbeddings) -> bool:
    return text.tokens is not None and model.pixel_decoder.fusion is not None


def _pixels(model: PartGLEE, encoded: EncodedBatch, text: TextEmbeddings) -> PixelFeatures:
    """The pixel decoder's output; of one row that serves all expressions where none is fused into it."""
    decoder = model.pixel_decoder
    pixels, projected = encoded.pixels, encoded.projected  # another thread may ask about the same image
    if pixels is not None and not _fuses(model, text):
        return pixels
    if projected is None:
        encoded.projected = projected = decoder.read(encoded.maps)
    if _fuses(model, text):
        return decoder.decode(projected, text.tokens, text.token_mask)
    encoded.pixels = pixels = decoder.decode(projected)
    encoded.projected = None  # most models need it for this one time
    return pixels


def _to_parse(model: PartGLEE, kept: Rows, vocabulary: Vocabulary, options: PostprocessOptions) -> Tensor:
    """Object queries whose parts are asked for. Which of the kept ones may have some is worth a device's waiting only
    where it saves work."""
    return kept.query if model.part_decoder.run is None else whole_ones(kept, vocabulary, options)


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

    Parts are looked for where an object is kept.

    Args:
        text: of the vocabulary, by `model.embed`.
        original_sizes: (H, W) of each image.
    """
    options, frames = options or PostprocessOptions(), encoded.frames(original_sizes)
    if len(frames) == 1:
        yield from detect_vocabularies(model, encoded, [(text, vocabulary)], original_sizes[0], options, precision)
        return
    encoded.asked(model, precision)
    with autocast(model.device, precision):
        pixels = _pixels(model, encoded, text)
        output = model.decode_objects(pixels, text)
    kept = [kept_objects(output, i, frame, options) for i, frame in enumerate(frames)]
    wanted = [_to_parse(model, rows, vocabulary, options) for rows in kept if rows is not None]
    if len(text.parts) and (not wanted or any(map(len, wanted))):
        with autocast(model.device, precision):
            output = model.decode_parts(output, pixels, wanted=wanted or None)
    for i, (frame, rows) in enumerate(zip(frames, kept, strict=True)):
        yield postprocess_image(output, i, vocabulary, frame, options, rows)


@torch.no_grad()
def detect_vocabularies(
    model: PartGLEE,
    encoded: EncodedBatch,
    asked: Sequence[tuple[TextEmbeddings, Vocabulary]],
    original_size: tuple[int, int],
    options: PostprocessOptions,
    precision: str = "float32",
) -> Iterator[Prediction]:
    """A prediction of one encoded image for each vocabulary; what they have in common is computed once.

    Args:
        asked: vocabularies, embedded by `model.embed`.
        original_size: (H, W).
    """
    encoded.asked(model, precision)
    frame = encoded.frames([original_size])[0]
    fused = any(_fuses(model, text) for text, _ in asked)
    for some in [[one] for one in asked] if fused else [asked]:  # a fused text has pixels of its own
        with autocast(model.device, precision):
            shared = encoded.shared
            if fused or shared is None:
                shared = SharedDecoding(model=model, pixels=_pixels(model, encoded, some[0][0]))
                encoded.shared = None if fused else shared
            outputs = shared.objects([text for text, _ in some])
        kept = [kept_objects(output, 0, frame, options) for output in outputs]
        wanted = [
            _to_parse(model, rows, vocabulary, options)
            for rows, (_, vocabulary) in zip(kept, some, strict=True)
            if rows is not None
        ]
        there = [i for i in range(len(some)) if not wanted or len(wanted[i])]
        with autocast(model.device, precision):
            parsed = shared.parts([outputs[i] for i in there], [wanted[i] for i in there] if wanted else None)
        for i, output in zip(there, parsed, strict=True):
            outputs[i] = output
        for output, (_, vocabulary), rows in zip(outputs, some, kept, strict=True):
            yield postprocess_image(output, 0, vocabulary, frame, options, rows)
