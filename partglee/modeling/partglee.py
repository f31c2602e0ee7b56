"""The whole model: images and text in, objects and their parts out (PartGLEE, figure 2).

B images, Q object queries, K objects kept, L parsing queries, E width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from partglee.modeling.denoising import DenoisingBuilder
from partglee.modeling.object_decoder import ObjectDecoder
from partglee.modeling.part_decoder import PartDecoder, QFormer
from partglee.modeling.photo_model import PhotoModel
from partglee.modeling.pixel_decoder import PixelDecoder
from partglee.structures import (
    HierarchicalTargets,
    ImageBatch,
    ModelOutput,
    PixelFeatures,
    TextEmbeddings,
    TextTokens,
    Vocabulary,
)
from partglee.text import TextEncoder


class PartGLEE(PhotoModel):
    """Backbone, pixel decoder, object decoder, Q-Former, part decoder: one pass over the image for both levels.

    Args:
        fuse_categories: let category names take part in early fusion; referring expressions always do.
        num_parsed_objects: K, object queries that are parsed into parts.
        selection: names by which object queries are selected in inference whatever is asked for, so that what else is
            asked for moves no score. None = by those that are asked for alone, as released.
        unseen_shift: added to the logits of object names that `selection`, which are those of the training then, does
            not have: they lose against names that were learned (calibrated stacking, arXiv 1605.04253, in logits).
        denoising: builds denoising queries from targets; None = never.
        pixel_mean, pixel_std: three numbers each, in 0..255.
    """

    def __init__(
        self,
        *,
        backbone: nn.Module,
        text_encoder: TextEncoder,
        pixel_decoder: PixelDecoder,
        object_decoder: ObjectDecoder,
        qformer: QFormer,
        part_decoder: PartDecoder,
        num_parsed_objects: int,
        fuse_categories: bool,
        selection: Vocabulary | None = None,
        unseen_shift: float = 0.0,
        denoising: DenoisingBuilder | None = None,
        pixel_mean: Sequence[float] = (123.675, 116.28, 103.53),
        pixel_std: Sequence[float] = (58.395, 57.12, 57.375),
        size_divisibility: int = 32,
    ) -> None:
        super().__init__(pixel_mean=pixel_mean, pixel_std=pixel_std, size_divisibility=size_divisibility)
        self.backbone = backbone
        self.text_encoder = text_encoder
        self.pixel_decoder = pixel_decoder
        self.object_decoder = object_decoder
        self.qformer = qformer
        self.part_decoder = part_decoder
        self.num_parsed_objects = num_parsed_objects
        self.fuse_categories = fuse_categories
        self.selection = selection
        self.unseen_shift = unseen_shift
        self.denoising = denoising

    def embed(self, vocabulary: Vocabulary) -> TextEmbeddings:
        """The vocabulary encoded for inference, from the cache where it is there."""
        text = self.text_encoder.embed(vocabulary, with_tokens=self.fuse_categories)
        if self.selection is None:
            return text
        always = self.text_encoder.embed(self.selection, with_tokens=False).objects
        known = set(self.selection.object_prompts)
        further = [row for row, prompt in enumerate(vocabulary.object_prompts) if prompt not in known]
        text = text._replace(selection=torch.cat((always, text.objects[further])))
        if not self.unseen_shift or not further:
            return text
        shift = text.objects.new_zeros(len(text.objects))
        shift[further] = self.unseen_shift
        return text._replace(object_shift=shift)

    def forward(
        self,
        images: ImageBatch | Tensor,
        text: TextEmbeddings | TextTokens,
        targets: Sequence[HierarchicalTargets] | None = None,
    ) -> ModelOutput:
        """One image batch against one vocabulary (or one expression for each image).

        Args:
            images: from `batch`, or a normalised (B, 3, H, W) tensor with H and W multiples of `size_divisibility`.
            text: embedded (`embed`), or tokenised, in which case the text encoder runs now, with gradients.
            targets: one for each image; read only to build denoising queries while training.

        Returns:
            In training mode the predictions of every layer, else of the last one alone. `parts` is None when the
            vocabulary has no part names.
        """
        tensor = images if isinstance(images, Tensor) else images.tensor
        self._check(tensor, text, targets)
        if isinstance(text, TextTokens):
            embedded: TextEmbeddings = self.text_encoder(text, with_tokens=self.fuse_categories or text.expressions)
        else:
            embedded = text
        pixels = self.pixel_decoder(self.backbone(tensor), embedded.tokens, embedded.token_mask)
        return self.decode(pixels, embedded, targets)

    def decode(
        self, pixels: PixelFeatures, text: TextEmbeddings, targets: Sequence[HierarchicalTargets] | None = None
    ) -> ModelOutput:
        """From the pixel decoder's output on: `forward` without the image side, whose output many vocabularies may
        share as long as no text is fused into it."""
        output = self.decode_objects(pixels, text, targets)
        return output if text.parts.shape[0] == 0 else self.decode_parts(output, pixels, targets)

    def decode_objects(
        self, pixels: PixelFeatures, text: TextEmbeddings, targets: Sequence[HierarchicalTargets] | None = None
    ) -> ModelOutput:
        """`decode` without the parts, which need not be looked for where no object is."""
        noised = None
        if self.training and self.denoising is not None and targets is not None:
            noised = self.denoising.objects(targets, text, self.object_decoder.heads)
        objects = self.object_decoder(pixels, text, noised, every_layer=self.training)
        return ModelOutput(objects, None, None, text, pixels.mask_features)

    def decode_parts(
        self,
        output: ModelOutput,
        pixels: PixelFeatures,
        targets: Sequence[HierarchicalTargets] | None = None,
        wanted: Sequence[Tensor] | None = None,
    ) -> ModelOutput:
        """What `decode_objects` gave, with the parts.

        Args:
            wanted: of each image the rows of the object queries whose parts are asked for: where parts of an object
                depend on it alone, others are parsed only to fill the batch. None = all that the model parses.
        """
        objects, text = output.objects, output.text
        rows = self.objects_to_parse(objects.layers[-1].logits, text.active)
        if wanted is not None and self.part_decoder.run is not None:
            asked = torch.stack([torch.isin(those, rows_of) for those, rows_of in zip(rows, wanted, strict=True)])
            most = max(1, int(asked.sum(1).max()))
            rows = rows.gather(1, asked.int().argsort(dim=1, descending=True, stable=True)[:, :most])
        parsed = self.qformer(objects.queries, rows)
        noised = None
        if self.training and self.denoising is not None and targets is not None:
            noised = self.denoising.parts(targets, text, self.part_decoder.heads)
        parts = self.part_decoder(parsed, pixels, text, noised, every_layer=self.training)
        return output._replace(parts=parts, parent=parsed.parent)

    def shard_units(self) -> Iterator[nn.Module]:
        """Parts that compute one after another, for sharded training: each is put together while it computes."""
        yield self.backbone
        for tower in (self.text_encoder.backend, self.text_encoder.teacher):
            if tower is not None and any(True for _ in tower.parameters()):
                yield tower
        yield from self.pixel_decoder.layers
        for decoder in (self.object_decoder.decoder, self.part_decoder.decoder):
            yield from decoder.layers
        yield self.qformer

    def objects_to_parse(self, logits: Tensor, active: Tensor | None) -> Tensor:
        """(B, K) rows of the object queries with the best logit of any name, best first."""
        scores = logits.detach()
        if active is not None:
            scores = scores.masked_fill(~active[:, None], float("-inf"))
        best = scores.max(dim=-1).values
        return best.topk(min(self.num_parsed_objects, best.shape[1]), dim=1).indices

    def _check(
        self, tensor: Tensor, text: TextEmbeddings | TextTokens, targets: Sequence[HierarchicalTargets] | None
    ) -> None:
        if tensor.ndim != 4 or tensor.shape[1] != 3:
            raise ValueError(f"images must be (B, 3, H, W), got {tuple(tensor.shape)}; model.batch([...]) makes them")
        divisor = self.size_divisibility
        if tensor.shape[2] % divisor or tensor.shape[3] % divisor:
            raise ValueError(
                f"H and W must be multiples of {divisor}, got {tensor.shape[2]} x {tensor.shape[3]}; "
                "model.batch([...]) pads them"
            )
        num_expressions = text.num_objects if isinstance(text, TextTokens) else text.objects.shape[0]
        if text.expressions and num_expressions != len(tensor):
            raise ValueError(f"expected one expression for each of {len(tensor)} images, got {num_expressions}")
        if targets is not None and len(targets) != len(tensor):
            raise ValueError(f"expected one target for each of {len(tensor)} images, got {len(targets)}")
