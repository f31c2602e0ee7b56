"""One image of a batch: its way from the padded canvas back to its own pixels, and rows picked from its queries.

N rows, Q queries, E width, h x w the stride-4 map, (H, W) the original image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import box_convert

from partglee.ops.masks import mask_logits, masks_to_image
from partglee.structures import LayerPrediction

_PIXELS_PER_PASS = 32_000_000  # mask logits upsampled at once: 128 MB in float32


@dataclass(frozen=True)
class Rows:
    """N candidate rows of one level in one image."""

    query: Tensor  # (N,)
    label: Tensor  # (N,)
    score: Tensor  # (N,)

    def __getitem__(self, keep: Tensor | slice) -> Rows:
        return Rows(self.query[keep], self.label[keep], self.score[keep])


@dataclass(frozen=True)
class Frame:
    """One image's way from the canvas back to its own pixels."""

    canvas: tuple[int, int]
    resized: tuple[int, int]
    original: tuple[int, int]

    def boxes(self, boxes: Tensor) -> Tensor:
        """(N, 4) cxcywh of the canvas in [0, 1] -> xyxy in pixels of the original image, clipped to it."""
        (canvas_h, canvas_w), (h, w), (height, width) = self.canvas, self.resized, self.original
        scale = boxes.new_tensor([canvas_w * width / w, canvas_h * height / h]).repeat(2)
        xyxy = box_convert(boxes, "cxcywh", "xyxy") * scale
        limit = boxes.new_tensor([width, height, width, height])
        return xyxy.clamp(min=0).minimum(limit)

    def mask_logits(self, embed: Tensor, features: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """(N, E), (E, h, w) -> logits (n, H, W) of a few rows at a time."""
        height, width = self.original
        per_row = max(height * width, self.canvas[0] * self.canvas[1])
        step = max(1, _PIXELS_PER_PASS // per_row)
        for start in range(0, len(embed), step):
            rows = slice(start, start + step)
            logits = mask_logits(embed[rows], features).float()
            yield (
                rows,
                masks_to_image(logits, canvas=self.canvas, padded_from=self.resized, image_size=self.original),
            )

    def masks(self, embed: Tensor, features: Tensor) -> Tensor:
        """(N, E), (E, h, w) -> (N, H, W) bool masks on the CPU."""
        masks = torch.zeros(len(embed), *self.original, dtype=torch.bool)
        for rows, logits in self.mask_logits(embed, features):
            masks[rows] = (logits > 0).cpu()
        return masks


def mask_confidence(logits: Tensor) -> Tensor:
    """(N, H, W) mask logits, which are overwritten -> (N,) mean probability of the pixels inside each mask."""
    inside = logits > 0
    total = logits.sigmoid_().mul_(inside).flatten(1).sum(1)  # in place: there are hundreds of full-size maps
    return total / (inside.flatten(1).sum(1, dtype=torch.int32) + 1e-6)


def one_image(layer: LayerPrediction, i: int) -> LayerPrediction:
    embed = None if layer.mask_embed is None else layer.mask_embed[i]
    return LayerPrediction(layer.logits[i], layer.boxes[i], embed)
