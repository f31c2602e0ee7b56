"""A batch of images on one padded canvas.

B images, H x W the canvas, (h, w) the size of one image before padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class ImageBatch(NamedTuple):
    """Normalised images, zero-padded at the bottom and right to one canvas."""

    tensor: Tensor  # (B, 3, H, W), normalised
    sizes: tuple[tuple[int, int], ...]  # (h, w) of each image before padding

    @property
    def canvas(self) -> tuple[int, int]:
        """(H, W) of the padded canvas; predicted boxes are relative to it."""
        return int(self.tensor.shape[-2]), int(self.tensor.shape[-1])


def batch_images(
    images: Sequence[Tensor],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    divisibility: int = 32,
    canvas: tuple[int, int] | None = None,
) -> ImageBatch:
    """Normalise and pad images of any sizes into one batch.

    Args:
        images: B tensors (3, h, w), RGB in 0..255, any numeric dtype, all on one device.
        mean, std: three numbers each, in 0..255.
        divisibility: the canvas sides are multiples of this.
        canvas: at least this (H, W); None = the smallest that holds all images.

    Raises:
        ValueError: for an empty list, a wrong layout, or non-finite pixels.
    """
    if not images:
        raise ValueError("expected at least one image, got an empty list; skip empty batches before the model")
    for i, image in enumerate(images):
        if image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
            raise ValueError(
                f"image {i} must be (3, h, w) RGB with h, w >= 1, got {tuple(image.shape)}; "
                "for (h, w, 3) arrays call permute(2, 0, 1)"
            )
        if image.is_floating_point() and not torch.isfinite(image).all():
            raise ValueError(f"image {i} has NaN or infinite pixels; check how it was made")
    height = max([int(i.shape[1]) for i in images] + ([canvas[0]] if canvas else []))
    width = max([int(i.shape[2]) for i in images] + ([canvas[1]] if canvas else []))
    height, width = -(-height // divisibility) * divisibility, -(-width // divisibility) * divisibility
    shift = torch.tensor(mean, dtype=torch.float32, device=images[0].device).view(3, 1, 1)
    scale = torch.tensor(std, dtype=torch.float32, device=images[0].device).view(3, 1, 1)
    padded = []
    for image in images:
        normalised = (image.float() - shift) / scale
        padded.append(F.pad(normalised, (0, width - image.shape[2], 0, height - image.shape[1])))
    return ImageBatch(torch.stack(padded), tuple((int(i.shape[1]), int(i.shape[2])) for i in images))
