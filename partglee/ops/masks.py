"""Masks from their factors, and from the model's map to the image (PartGLEE Eq. 1).

B images, Q queries, N masks, E width, h x w the stride-4 map, H x W the image.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from . import dispatch, native


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


class ImageMasks(NamedTuple):
    """Masks in the pixels of an image, where they are asked for."""

    inside: Tensor | None  # (N, H, W) bool, logits above zero
    confidence: Tensor | None  # (N,) mean probability of the pixels inside; 0 for an empty mask


def image_masks(
    logits: Tensor,
    *,
    canvas: tuple[int, int],
    padded_from: tuple[int, int],
    image_size: tuple[int, int],
    inside: bool = False,
    confidence: bool = False,
    windows: Tensor | None = None,
) -> ImageMasks:
    """(N, h, w) mask logits -> what `masks_to_image` says of them, without its (N, H, W) logits where the compiled
    operator is there: each row of pixels is made, compared and summed up in the first-level cache.

    Args:
        canvas, padded_from, image_size: as of `masks_to_image`.
        inside, confidence: what is wanted.
        windows: (N, 4) long top, bottom, left, right in pixels of the image, 0 <= top <= bottom <= H: nothing of a mask
            lies outside of its window. None = masks lie anywhere.
    """
    if dispatch.native_masks(logits):
        rows, columns = (
            _taps(*sizes) for sizes in zip(logits.shape[-2:], canvas, padded_from, image_size, strict=True)
        )
        found, sums = native.OPERATORS.enlarge_masks(
            logits.float().contiguous(), rows.first, rows.weight, columns.first, columns.weight_by_tap,
            logits.new_zeros(0, 4, dtype=torch.int64) if windows is None else windows.contiguous(), inside, confidence,
        )  # fmt: skip
        mean = (sums[1] / (sums[0] + 1e-6)).to(logits.dtype) if confidence else None
        return ImageMasks(found if inside else None, mean)
    full = masks_to_image(logits, canvas=canvas, padded_from=padded_from, image_size=image_size)
    return compared(full, inside=inside, confidence=confidence, windows=windows)


def compared(
    full: Tensor, *, inside: bool = False, confidence: bool = False, windows: Tensor | None = None
) -> ImageMasks:
    """`image_masks` of (N, H, W) logits in the image's size, which are overwritten."""
    if windows is not None:
        y, x = (torch.arange(size, device=full.device) for size in full.shape[1:])
        top, bottom, left, right = windows.unsqueeze(-1).unbind(1)
        seen = ((y >= top) & (y < bottom)).unsqueeze(2) & ((x >= left) & (x < right)).unsqueeze(1)
        full = full.masked_fill_(~seen, -1.0)
    return ImageMasks(full > 0 if inside else None, mask_confidence(full) if confidence else None)


def mask_confidence(logits: Tensor) -> Tensor:
    """(N, H, W) mask logits, which are overwritten -> (N,) mean probability of the pixels inside each mask."""
    inside = (logits > 0).flatten(1).sum(1, dtype=torch.int32)
    # A probability is (1 + tanh(x / 2)) / 2: pixels outside add exactly nothing. In place, since maps are large.
    above_half = logits.relu_().mul_(0.5).tanh_().flatten(1).sum(1)
    return (above_half + inside) / 2 / (inside + 1e-6)


class _Taps(NamedTuple):
    """Interpolation along one axis: output i is a sum over inputs from `first[i]` on."""

    first: Tensor  # (out,) int32, never falling
    weight: Tensor  # (out, K) float32
    weight_by_tap: Tensor  # (K, out), the same


@lru_cache(maxsize=256)
def _taps(size: int, canvas: int, padded_from: int, image: int) -> _Taps:
    """Both steps of `masks_to_image` along one axis as one: what they make of each input alone says its weights."""
    eye = torch.eye(size, dtype=torch.float32, device="cpu")  # whatever the defaults are now: this is kept
    with torch.no_grad():
        steps = F.interpolate(eye[None], size=canvas, mode="linear", align_corners=False)[..., :padded_from]
        if padded_from != image:
            steps = F.interpolate(steps, size=image, mode="linear", align_corners=False)
        matrix = steps[0].t()  # (out, in)
    used = matrix != 0
    first = used.int().argmax(1)
    last = size - 1 - used.flip(1).int().argmax(1)
    count = int((last - first).max()) + 1
    first = first.clamp(max=size - count)
    weight = matrix.gather(1, first[:, None] + torch.arange(count, device="cpu")).contiguous()
    return _Taps(first.int(), weight, weight.t().contiguous())
