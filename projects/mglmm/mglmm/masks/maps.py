"""A mask decoder without a model of its own behind it: the library's backbone and pixel decoder, read by the prompt.

The prompt looks at the memory a few times and is then dotted with the mask features, as a query of PartGLEE or
Mask2Former (arXiv 2112.01527) is. All of it learns. B images, N prompts, E width, S memory tokens, h x w the map.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mglmm.masks.base import DecodedMasks, MaskDecoder
from partglee.engine.image_input import ImageInput
from partglee.layers import MLP, FeedForward, MultiheadAttention, sine_position_map
from partglee.modeling.pixel_decoder import PixelDecoder
from partglee.ops.masks import mask_confidence


class MapFeatures(NamedTuple):
    """What prompts read."""

    memory: Tensor  # (B, S, E)
    place: Tensor  # (B, S, E) where each token is
    mask_features: Tensor  # (B, E, h, w)


class MapMasks(MaskDecoder):
    """Trains from scratch, or from a backbone and pixel decoder of PartGLEE.

    Args:
        num_layers: how often a prompt looks at the memory.
    """

    frozen = False

    def __init__(
        self,
        *,
        backbone: nn.Module,
        pixel_decoder: PixelDecoder,
        image_input: ImageInput,
        embed_dim: int,
        num_heads: int,
        ffn_dim: int,
        num_layers: int = 2,
        pixel_mean: tuple[float, float, float] = (127.5, 127.5, 127.5),
        pixel_std: tuple[float, float, float] = (127.5, 127.5, 127.5),
        size_divisibility: int = 32,
    ) -> None:
        super().__init__(pixel_mean=pixel_mean, pixel_std=pixel_std, size_divisibility=size_divisibility)
        self.backbone = backbone
        self.pixel_decoder = pixel_decoder
        self.image_input = image_input
        self.prompt_dim = embed_dim
        self.layers = nn.ModuleList(
            _Look(embed_dim=embed_dim, num_heads=num_heads, ffn_dim=ffn_dim) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(embed_dim)
        self.mask_mlp = MLP(input_dim=embed_dim, hidden_dim=embed_dim, output_dim=embed_dim, num_layers=3)

    def learning(self) -> Iterator[tuple[str, nn.Parameter]]:
        return self.named_parameters()

    def encode(self, pixels: Tensor) -> MapFeatures:
        seen = self.pixel_decoder(self.backbone(pixels))
        width = seen.memory.shape[-1]
        place = torch.cat([sine_position_map(h, w, width, device=pixels.device) for h, w in seen.level_sizes], 1)
        return MapFeatures(seen.memory, place.expand(len(pixels), -1, -1), seen.mask_features)

    def decode(
        self, features: MapFeatures, prompts: Tensor, image_of: Tensor, targets: Tensor | None = None
    ) -> DecodedMasks:
        del targets
        x = prompts[:, None]
        memory, place = features.memory[image_of], features.place[image_of].to(prompts.dtype)
        for layer in self.layers:
            x = layer(x, memory, memory + place)
        embed = self.mask_mlp(self.norm(x))[:, 0]
        logits = torch.einsum("ne,nehw->nhw", embed, features.mask_features[image_of])
        return DecodedMasks(logits, mask_confidence(logits.detach().float().clone()))


class _Look(nn.Module):
    """The prompt attends to the memory, then a feed-forward network; norms first."""

    def __init__(self, *, embed_dim: int, num_heads: int, ffn_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(embed_dim)
        self.attention = MultiheadAttention(embed_dim=embed_dim, num_heads=num_heads)
        self.ffn_norm = nn.LayerNorm(embed_dim)
        self.ffn = FeedForward(embed_dim=embed_dim, ffn_dim=ffn_dim)

    def forward(self, x: Tensor, memory: Tensor, placed: Tensor) -> Tensor:
        x = x + self.attention(self.norm(x), placed, memory)
        return x + self.ffn(self.ffn_norm(x))
