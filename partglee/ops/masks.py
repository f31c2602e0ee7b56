"""Masks from their factors, and from the model's map to the image (PartGLEE Eq. 1).

B images, Q queries, N masks, E width, h x w the stride-4 map.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def mask_logits(mask_embed: Tensor, mask_features: Tensor) -> Tensor:
    """(..., N, E) embeddings and (..., E, h, w) features -> (..., N, h, w) logits.

    Features (1, E, h, w) serve all B rows of embeddings (B, N, E), and are read once for all of them.
    """
    h, w = mask_features.shape[-2:]
    if mask_embed.ndim == 3 and mask_features.ndim == 4 and mask_features.shape[0] == 1:
        rows = mask_embed.flatten(0, 1) @ mask_features[0].flatten(-2)
        return rows.unflatten(-1, (h, w)).unflatten(0, mask_embed.shape[:2])
    return (mask_embed @ mask_features.flatten(-2)).unflatten(-1, (h, w))


def masks_to_image(
    logits: Tensor, *, canvas: tuple[int, int], padded_from: tuple[int, int], image_size: tuple[int, int]
) -> Tensor:
    """(N, h, w) mask logits -> (N, H, W) logits of the original image.

    Bilinear to the padded canvas, the padding cut off, bilinear to the image; the order that released numbers expect.

    Args:
        canvas: (H, W) of the padded network input.
        padded_from: (H, W) of the resized image on it.
        image_size: (H, W) of the original image.
    """
    x = F.interpolate(logits[None], size=canvas, mode="bilinear", align_corners=False)
    x = x[..., : padded_from[0], : padded_from[1]]
    if tuple(padded_from) != tuple(image_size):
        x = F.interpolate(x, size=image_size, mode="bilinear", align_corners=False)
    return x[0]
