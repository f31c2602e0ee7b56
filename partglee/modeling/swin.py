"""Swin for detection: timm's blocks, with windows cut as the released backbone cuts them (docs/design.md).

B images, H x W a map, C channels, A pixels of a window, N windows.
"""

from __future__ import annotations

import torch
from timm.models.swin_transformer import SwinTransformerBlock, window_partition, window_reverse
from torch import Tensor
from torch.nn import functional as F


class PadBeforeRollBlock(SwinTransformerBlock):
    """Pads a map to whole windows *before* it rolls. timm rolls first, which moves the padding into other windows on
    every map whose sides are no multiples of the window, so that detection weights give other features there."""

    def _attn(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        _, height, width, channels = x.shape
        (window_h, window_w), (shift_h, shift_w) = self.window_size, self.shift_size
        x = F.pad(x, (0, 0, 0, -width % window_w, 0, -height % window_h))
        _, padded_h, padded_w, _ = x.shape
        mask = None
        if shift_h or shift_w:
            x = torch.roll(x, shifts=(-shift_h, -shift_w), dims=(1, 2))
            mask = self._rolled_mask(padded_h, padded_w, x)
        windows = window_partition(x, self.window_size).view(-1, self.window_area, channels)
        windows = self.attn(windows, mask=mask)
        x = window_reverse(windows.view(-1, window_h, window_w, channels), self.window_size, padded_h, padded_w)
        if shift_h or shift_w:
            x = torch.roll(x, shifts=(shift_h, shift_w), dims=(1, 2))
        return x[:, :height, :width].contiguous()

    def _rolled_mask(self, height: int, width: int, like: Tensor) -> Tensor:
        """(N, A, A) additive mask: pixels that were no neighbours before the roll do not attend to each other."""

        def region(size: int, window: int, shift: int) -> Tensor:
            index = torch.arange(size, device=like.device)
            return (index >= size - window).long() + (index >= size - shift).long()

        rows = region(height, self.window_size[0], self.shift_size[0])
        columns = region(width, self.window_size[1], self.shift_size[1])
        regions = (3 * rows[:, None] + columns[None])[None, :, :, None]
        windows = window_partition(regions, self.window_size).view(-1, self.window_area)
        apart = windows.unsqueeze(1) != windows.unsqueeze(2)
        return torch.zeros_like(apart, dtype=like.dtype).masked_fill(apart, -100.0)


def pad_before_roll(block: SwinTransformerBlock) -> None:
    """Turn one of timm's blocks, weights and all, into the detection variant, in place."""
    block.__class__ = PadBeforeRollBlock
    block.register_buffer("attn_mask", None, persistent=False)  # timm precomputes it for one input size
