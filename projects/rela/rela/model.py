"""The whole model: images and expressions in, one mask and one no-target answer for each expression out.

B images, E expressions (image_of says whose), T words, C width, H x W the canvas.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from partglee.layers import sine_position_map
from partglee.modeling.backbone import Backbone
from partglee.modeling.photo_model import SentenceModel, Words, of_sentences
from partglee.modeling.pixel_decoder import PixelDecoder
from partglee.structures import ImageBatch, PixelFeatures
from partglee.text import TextBackend
from rela.fusion import Gate, PixelSide, WordFusion, WordMemory
from rela.region_decoder import RegionDecoder, RegionOutput

FUSIONS = ("backbone", "memory", "none")


class EncodedImages(NamedTuple):
    """All that can be known of B images before an expression is read."""

    sides: tuple[PixelSide, ...]  # of the maps that words are fused into
    maps: tuple[tuple[int, int], ...]  # (h, w) of each of them
    pixels: PixelFeatures | None  # None where words enter before the pixel decoder
    images: Tensor | None = None  # (B, 3, H, W) where words enter the backbone itself


class ReLA(SentenceModel):
    """Generalised referring segmentation by regions (GRES, arXiv 2306.00968).

    Args:
        text_encoder: ids and mask (E, T) -> word states (E, T, D); `tokenize(texts)` makes them.
        fusion: where words enter the image side. "backbone": one block on each of its four outputs (released); the
            pixel decoder then runs for every expression. "memory": one block adds to each level that the pixel decoder
            leaves, the finest also to the mask features, so that an image is encoded once for all expressions.
            "none": nowhere, only the regions read words (the paper's figure 4).
        fusion_blocks: one for each fused map, fine to coarse for "backbone", coarse to fine for "memory".
        gates: one for each fused map but the last: words go on into the next stage of the backbone, which then runs for
            every expression. Needs "backbone"; the released gates are closed and left out.
        hard_split: P: cut the image into P x P pieces that the backbone sees one by one; 0 = whole.
        pixel_mean, pixel_std: three numbers each, in 0..255.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        text_encoder: TextBackend,
        pixel_decoder: PixelDecoder,
        region_decoder: RegionDecoder,
        fusion: str,
        fusion_blocks: Sequence[WordFusion],
        gates: Sequence[Gate] = (),
        hard_split: int = 0,
        pixel_mean: Sequence[float] = (123.675, 116.28, 103.53),
        pixel_std: Sequence[float] = (58.395, 57.12, 57.375),
        size_divisibility: int = 32,
    ) -> None:
        super().__init__(pixel_mean=pixel_mean, pixel_std=pixel_std, size_divisibility=size_divisibility)
        if fusion not in FUSIONS:
            raise ValueError(f"fusion must be one of {', '.join(FUSIONS)}, got {fusion!r}")
        if gates and (fusion != "backbone" or hard_split or len(gates) != len(fusion_blocks) - 1):
            raise ValueError(
                f'gates need fusion "backbone", a whole image and one gate between two blocks, got {len(gates)} gates, '
                f"fusion {fusion!r}, hard_split {hard_split}"
            )
        self.backbone = backbone
        self.text_encoder = text_encoder
        self.fusion = nn.ModuleList(fusion_blocks)
        self.gates = nn.ModuleList(gates)
        self.to_mask_features: nn.Linear | None = None
        if fusion == "memory":
            width = region_decoder.content.shape[-1]
            self.to_mask_features = nn.Linear(width, width)
        self.pixel_decoder = pixel_decoder
        self.region_decoder = region_decoder
        self.fused = fusion
        self.hard_split = hard_split

    @property
    def padded_to(self) -> int | None:
        """Where padding takes part there is always as much of it, so that an answer is the same in any company."""
        return self.text_encoder.context_length if self.region_decoder.attend_to_padding else None

    @property
    def anchor(self) -> Tensor:
        return self.region_decoder.content

    def encode_image(self, images: ImageBatch | Tensor) -> EncodedImages:
        """Everything that the expressions of an image share."""
        tensor = images if isinstance(images, Tensor) else images.tensor
        divisor = self.size_divisibility
        if tensor.ndim != 4 or tensor.shape[1] != 3 or tensor.shape[2] % divisor or tensor.shape[3] % divisor:
            raise ValueError(
                f"images must be (B, 3, H, W), H and W multiples of {divisor}, got {tuple(tensor.shape)}; "
                "model.batch([...]) makes them"
            )
        if len(self.gates):
            return EncodedImages((), (), None, tensor)
        maps = self._backbone_maps(tensor)
        if self.fused == "backbone":
            sides = tuple(f.prepare(m.flatten(2)) for f, m in zip(self._blocks(), maps, strict=True))
            return EncodedImages(sides, tuple((m.shape[-2], m.shape[-1]) for m in maps), None)
        pixels = self.pixel_decoder(maps)
        if self.fused == "none":
            return EncodedImages((), (), pixels)
        # With their places, so that words such as "left" find something to agree with.
        places = [sine_position_map(h, w, pixels.memory.shape[-1], device=self.device) for h, w in pixels.level_sizes]
        levels = (pixels.memory + torch.cat(places, dim=1)).split([h * w for h, w in pixels.level_sizes], dim=1)
        sides = tuple(f.prepare(level.transpose(1, 2)) for f, level in zip(self._blocks(), levels, strict=True))
        return EncodedImages(sides, pixels.level_sizes, pixels)

    def decode(self, encoded: EncodedImages, words: Words, image_of: Tensor) -> RegionOutput:
        """Encoded images and E expressions, (E,) `image_of` the row of each one's image -> what the regions say."""
        if len(image_of) != len(words.states):
            raise ValueError(f"expected the image of each of {len(words.states)} expressions, got {len(image_of)}")
        if encoded.images is not None:
            maps = self._gated_maps(of_sentences(encoded.images, image_of), words)
            return self.region_decoder(self.pixel_decoder(maps), words)
        sides = [PixelSide(*(of_sentences(x, image_of) for x in side)) for side in encoded.sides]
        fused = [block(side, words) for block, side in zip(self.fusion, sides, strict=True)]
        if encoded.pixels is None:
            maps = [f.transpose(1, 2).unflatten(2, size) for f, size in zip(fused, encoded.maps, strict=True)]
            return self.region_decoder(self.pixel_decoder(maps), words)
        shared = encoded.pixels._replace(
            memory=of_sentences(encoded.pixels.memory, image_of),
            mask_features=of_sentences(encoded.pixels.mask_features, image_of),
        )
        if self.to_mask_features is None:
            return self.region_decoder(shared, words)
        linear = self.to_mask_features
        added = WordMemory(tuple(fused), encoded.maps[-1], linear.weight, linear.bias)
        return self.region_decoder(shared, words, added)

    def _backbone_maps(self, tensor: Tensor) -> list[Tensor]:
        if not self.hard_split:
            return self.backbone(tensor)
        # Pieces whose sides are multiples of what the backbone needs, so that their maps fit together again.
        p, divisor = self.hard_split, self.size_divisibility
        h, w = (max(1, -(-side // (p * divisor))) * divisor for side in tensor.shape[-2:])
        pieces = F.interpolate(tensor, size=(p * h, p * w), mode="bilinear", align_corners=False)
        pieces = pieces.unflatten(2, (p, h)).unflatten(4, (p, w)).permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
        return [
            m.unflatten(0, (len(tensor), p, p)).permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
            for m in self.backbone(pieces)
        ]

    def _blocks(self) -> list[WordFusion]:
        return [cast(WordFusion, block) for block in self.fusion]

    def _gated_maps(self, tensor: Tensor, words: Words) -> list[Tensor]:
        """Fused maps (E, C, h, w) of a backbone whose stages see what the words have said before them."""
        fused: list[Tensor] = []
        blocks = self._blocks()

        def fuse(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            i, channels_last = len(fused), self.backbone.nhwc
            x = output.permute(0, 3, 1, 2) if channels_last else output
            block = blocks[i]
            residual = block.residual(block.prepare(x.flatten(2)), words)
            fused.append(block.norm(residual).transpose(1, 2).unflatten(2, x.shape[-2:]))
            if i < len(self.gates):
                x = x + self.gates[i](residual).transpose(1, 2).unflatten(2, x.shape[-2:])
            return x.permute(0, 2, 3, 1) if channels_last else x

        body: Any = self.backbone.body
        hooks = [body[name].register_forward_hook(fuse) for name in body.return_layers]
        try:
            body(tensor)
        finally:
            for hook in hooks:
                hook.remove()
        return fused
