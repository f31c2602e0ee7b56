"""The image side: CLIP's vision transformer, or the library's pixel decoder, both with group tokens on board.

B images, N = h * w places, W width, G tokens of a level.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import open_clip
import torch
from open_clip.transformer import QuickGELU, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from partglee.layers import sine_position_map
from partglee.modeling.backbone import Backbone
from partglee.modeling.pixel_decoder import PixelDecoder
from unires.grouping import LEVELS, GroupReader, GroupTokens


class ImageSide(NamedTuple):
    """What an image says before an expression is read."""

    tokens: Tensor  # (B, N, W), rows of a map
    grid: tuple[int, int]  # (h, w)
    groups: Mapping[str, Tensor]  # level -> (B, G, W); only levels that are there


class ClipImageSide(nn.Module):
    """open_clip's vision transformer; low tokens travel through its first half, high ones through its second.

    Patches and tokens see each other by the transformer's own attention and by nothing else. The class token travels
    along, as in training, and is not used. Any size that is a multiple of the patch: positions are interpolated.

    Args:
        tower: of `build_tower`.
        groups: width as the tower's.
        checkpoint_layers: recompute layers in the backward pass to save memory.
    """

    def __init__(self, *, tower: VisionTransformer, groups: GroupTokens, checkpoint_layers: bool = False) -> None:
        super().__init__()
        self.tower = tower
        self.groups = groups
        self.checkpoint_layers = checkpoint_layers
        self.width = int(tower.class_embedding.shape[0])
        self.stride = int(cast(tuple[int, int], tower.patch_size)[0])

    def forward(self, images: Tensor) -> ImageSide:
        """(B, 3, H, W) normalised images -> what they say."""
        tower = self.tower
        if images.shape[-2] % self.stride or images.shape[-1] % self.stride:
            raise ValueError(f"the sides of images must be multiples of {self.stride}, got {tuple(images.shape[-2:])}")
        patches = tower.conv1(images)
        grid = (patches.shape[-2], patches.shape[-1])
        x = patches.flatten(2).transpose(1, 2)
        first = tower.class_embedding.to(x.dtype).expand(len(x), 1, -1)
        x = tower.ln_pre(torch.cat((first, x), dim=1) + self.places(grid).to(x.dtype))
        blocks = list(tower.transformer.resblocks)
        half, own = len(blocks) // 2, x.shape[1]
        groups = {}
        for level, layers in zip(LEVELS, (blocks[:half], blocks[half:]), strict=True):
            x = torch.cat((x, self.groups.of(level, x)), dim=1)
            for layer in layers:
                x = checkpoint(layer, x, use_reentrant=False) if self._recomputes() else layer(x)
            groups[level], x = x[:, own:], x[:, :own]
        return ImageSide(tower.ln_post(x)[:, 1:], grid, {level: groups[level] for level in self.groups.levels})

    def _recomputes(self) -> bool:
        return self.checkpoint_layers and self.training

    def places(self, grid: tuple[int, int]) -> Tensor:
        """(1 + h * w, W) of the class token and a grid's places, bicubic where the tower is of another grid."""
        places: Tensor = self.tower.positional_embedding
        own = cast(tuple[int, int], self.tower.grid_size)
        if grid == tuple(own):
            return places
        square = places[1:].float().unflatten(0, own).permute(2, 0, 1)[None]
        wide = F.interpolate(square, size=grid, mode="bicubic", align_corners=False, antialias=True)
        return torch.cat((places[:1], wide[0].flatten(1).T.to(places.dtype)))


class MapImageSide(nn.Module):
    """The library's backbone and pixel decoder; low tokens read its finest level, high ones its coarsest and the low
    ones' outcome is not theirs: the levels stay apart, as in the transformer.

    Args:
        readers: layers for each level of `groups`.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        pixel_decoder: PixelDecoder,
        groups: GroupTokens,
        readers: Mapping[str, list[GroupReader]],
        width: int,
        stride: int = 8,
    ) -> None:
        super().__init__()
        if set(readers) != set(groups.levels):
            raise ValueError(f"readers must be those of {groups.levels}, got {tuple(readers)}")
        self.backbone = backbone
        self.pixel_decoder = pixel_decoder
        self.groups = groups
        self.readers = nn.ModuleDict({level: nn.ModuleList(layers) for level, layers in readers.items()})
        self.width = width
        self.stride = stride

    def forward(self, images: Tensor) -> ImageSide:
        """(B, 3, H, W) normalised images, sides multiples of 32 -> what they say."""
        pixels = self.pixel_decoder(self.backbone(images))
        sizes = pixels.level_sizes  # coarse to fine
        levels = pixels.memory.split([h * w for h, w in sizes], dim=1)
        groups = {}
        for level, place in (("low", -1), ("high", 0)):
            if level not in self.readers:
                continue
            seen, (h, w) = levels[place], sizes[place]
            places = sine_position_map(h, w, self.width, device=seen.device).to(seen.dtype)
            tokens = self.groups.of(level, seen)
            for reader in cast(nn.ModuleList, self.readers[level]):
                tokens = reader(tokens, seen, places)
            groups[level] = tokens
        return ImageSide(levels[-1], sizes[-1], groups)


def build_tower(architecture: str, *, options: Mapping[str, Any] | None = None) -> VisionTransformer:
    """open_clip's vision transformer of a name, with fresh weights and without its projection.

    Args:
        architecture: such as `ViT-B-16`, `ViT-L-14`; see `open_clip.list_models()`.
        options: `image_size`, `width`, `layers`, `head_width`, `patch_size` in place of the architecture's.

    Raises:
        ValueError: for a name that open_clip does not know, or a tower of another form (SigLIP, ResNet).
    """
    config = open_clip.get_model_config(architecture)
    vision = dict((config or {}).get("vision_cfg", {}))
    if not isinstance(vision.get("layers"), int) or "patch_size" not in vision or "timm_model_name" in vision:
        raise ValueError(
            f"MODEL.IMAGE.ARCH must name an open_clip model with CLIP's own vision transformer, got {architecture!r}; "
            "try 'ViT-B-16' or 'ViT-L-14', or see open_clip.list_models()"
        )
    vision.update(options or {})
    width, head_width = int(vision["width"]), int(vision.get("head_width", 64))
    tower = VisionTransformer(
        image_size=int(vision["image_size"]),
        patch_size=int(vision["patch_size"]),
        width=width,
        layers=int(vision["layers"]),
        heads=width // head_width,
        mlp_ratio=float(vision.get("mlp_ratio", 4.0)),
        output_dim=width,
        act_layer=QuickGELU if (config or {}).get("quick_gelu") else nn.GELU,
    )
    tower.proj = None
    return tower
