"""Segment Anything (arXiv 2304.02643) and its successor (2408.00714), as transformers has them, prompted by a state.

The state takes the place of a point or box: one sparse token for each mask, no dense prompt (LISA, GLaMM, MGLMM).
B images, N prompts, D prompt width.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from mglmm.masks.base import DecodedMasks, MaskDecoder
from partglee.engine.image_input import ImageInput

_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class SamMasks(MaskDecoder):
    """`transformers.SamModel`: the long side is resized to its input (released: 1024), the rest padded.

    Args:
        sam: the model; of its parts the mask decoder learns, the rest is frozen.
    """

    def __init__(self, *, sam: Any) -> None:
        side = int(sam.config.vision_config.image_size)
        super().__init__(pixel_mean=_MEAN, pixel_std=_STD, size_divisibility=1)
        self.sam = sam
        self.prompt_dim = int(sam.config.prompt_encoder_config.hidden_size)
        self.image_input = ImageInput(short_side=side, max_side=side)
        self.canvas = (side, side)
        _freeze_all_but(self, "sam.mask_decoder.")

    def encode(self, pixels: Tensor) -> Tensor:
        """-> (B, C, h, w)."""
        embedded: Tensor = self.sam.vision_encoder(pixels).last_hidden_state
        return embedded

    def decode(self, features: Any, prompts: Tensor, image_of: Tensor, targets: Tensor | None = None) -> DecodedMasks:
        del targets
        if not len(prompts):
            return _nothing(features, prompts)
        maps, places, dense = self._image_side(features, image_of)
        masks, quality = self.sam.mask_decoder(
            image_embeddings=maps,
            image_positional_embeddings=places,
            sparse_prompt_embeddings=prompts[:, None, None].to(maps.dtype),
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        return DecodedMasks(masks[:, 0, 0], quality.reshape(-1).float().clamp(0, 1))

    def shard_units(self) -> Iterator[nn.Module]:
        yield self.sam.vision_encoder

    def learning(self) -> Iterator[tuple[str, nn.Parameter]]:
        return _below(self, "sam.mask_decoder.")

    def _image_side(self, features: Tensor, image_of: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        maps = features[image_of]
        places = self.sam.get_image_wide_positional_embeddings().to(maps.dtype).expand(len(maps), -1, -1, -1)
        dense = self.sam.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).to(maps.dtype)
        return maps, places, dense.expand(len(maps), -1, *maps.shape[-2:])


class Sam2Masks(MaskDecoder):
    """`transformers.Sam2Model`: images are squashed to its input; the confidence is that of the mask times that there
    is anything at all.

    The two convolutions that prepare its fine maps are its mask decoder's, though transformers runs them with the image
    encoder: here they run in `decode`, so that they learn, and the encoder's own maps can be kept.
    """

    def __init__(self, *, sam: Any) -> None:
        side = sam.config.prompt_encoder_config.image_size
        side = int(side if isinstance(side, int) else side[0])
        super().__init__(pixel_mean=_MEAN, pixel_std=_STD, size_divisibility=1)
        self.sam = sam
        self.prompt_dim = int(sam.config.prompt_encoder_config.hidden_size)
        self.image_input = ImageInput(short_side=side, max_side=side, squash=(side, side))
        self.canvas = (side, side)
        _freeze_all_but(self, "sam.mask_decoder.")

    def encode(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """-> maps (B, C, h, w) of the feature pyramid, fine to coarse."""
        return tuple(self.sam.vision_encoder(pixels).fpn_hidden_states)

    def decode(self, features: Any, prompts: Tensor, image_of: Tensor, targets: Tensor | None = None) -> DecodedMasks:
        del targets
        if not len(prompts):
            return _nothing(features[-1], prompts)
        decoder, last = self.sam.mask_decoder, features[-1]
        coarse = (last + self.sam.no_memory_embedding.reshape(1, -1, 1, 1).to(last.dtype))[image_of]
        fine = [decoder.conv_s0(features[0])[image_of], decoder.conv_s1(features[1])[image_of]]
        places = self.sam.get_image_wide_positional_embeddings().to(coarse.dtype)
        dense = self.sam.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).to(coarse.dtype)
        masks, quality, _, there = decoder(
            image_embeddings=coarse,
            image_positional_embeddings=places.expand(len(coarse), -1, -1, -1),
            sparse_prompt_embeddings=prompts[:, None, None].to(coarse.dtype),
            dense_prompt_embeddings=dense.expand(len(coarse), -1, *coarse.shape[-2:]),
            multimask_output=False,
            high_resolution_features=fine,
        )
        sure = quality.reshape(-1).float().clamp(0, 1) * there.reshape(-1).float().sigmoid()
        return DecodedMasks(masks[:, 0, 0], sure)

    def shard_units(self) -> Iterator[nn.Module]:
        yield self.sam.vision_encoder

    def learning(self) -> Iterator[tuple[str, nn.Parameter]]:
        return _below(self, "sam.mask_decoder.")


def _below(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, weight) for name, weight in module.named_parameters() if name.startswith(prefix))


def _freeze_all_but(module: nn.Module, prefix: str) -> None:
    for name, weight in module.named_parameters():
        weight.requires_grad_(name.startswith(prefix))


def _nothing(maps: Tensor, prompts: Tensor) -> DecodedMasks:
    """No prompt, no mask; still connected to the prompts' graph."""
    h, w = maps.shape[-2:]
    return DecodedMasks(prompts.sum() * 0 + torch.zeros(0, 4 * h, 4 * w, device=prompts.device), prompts.new_zeros(0))
