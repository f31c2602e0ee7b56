"""Swin's windows are cut after padding, before rolling."""

from __future__ import annotations

import pytest
import timm
import torch
from timm.models.swin_transformer import SwinTransformerBlock

from partglee.modeling.backbone import build_timm_backbone
from partglee.modeling.swin import PadBeforeRollBlock, pad_before_roll


def make_block(shift: int) -> SwinTransformerBlock:
    torch.manual_seed(0)
    block = SwinTransformerBlock(
        dim=8, input_resolution=(8, 8), num_heads=2, window_size=4, shift_size=shift, always_partition=True
    )
    torch.nn.init.normal_(block.attn.relative_position_bias_table)
    pad_before_roll(block)
    return block.eval()


def slow_attention(block: SwinTransformerBlock, x: torch.Tensor) -> torch.Tensor:
    """Pixel by pixel: which other pixels share its window after padding and rolling, and were neighbours before."""
    _, height, width, channels = x.shape
    window, shift = block.window_size[0], block.shift_size[0]
    padded_h, padded_w = -(-height // window) * window, -(-width // window) * window
    padded = torch.zeros(padded_h, padded_w, channels)
    padded[:height, :width] = x[0]
    heads = block.attn.num_heads
    q, k, v = block.attn.qkv(padded).reshape(padded_h, padded_w, 3, heads, -1).unbind(2)

    def place(y: int, x_: int) -> tuple[int, int, int, int]:
        """Window and position in it, in the rolled map."""
        rolled_y, rolled_x = (y - shift) % padded_h, (x_ - shift) % padded_w
        return rolled_y // window, rolled_x // window, rolled_y, rolled_x

    out = torch.zeros(height, width, channels)
    for y in range(height):
        for x_ in range(width):
            wy, wx, ry, rx = place(y, x_)
            logits, values = [], []
            for oy in range(padded_h):
                for ox in range(padded_w):
                    vy, vx, sy, sx = place(oy, ox)
                    wrapped = (oy < shift) != (y < shift) or (ox < shift) != (x_ < shift)
                    if (vy, vx) != (wy, wx) or (
                        shift and wrapped and _split(window, padded_h, padded_w, wy, wx, y, x_, oy, ox, shift)
                    ):
                        continue
                    index = (ry - sy + window - 1) * (2 * window - 1) + (rx - sx + window - 1)
                    bias = block.attn.relative_position_bias_table[index]
                    scale = q.shape[-1] ** -0.5
                    logits.append((q[y, x_] * k[oy, ox]).sum(-1) * scale + bias)
                    values.append(v[oy, ox])
            weights = torch.stack(logits).softmax(0)
            out[y, x_] = block.attn.proj((weights[..., None] * torch.stack(values)).sum(0).flatten())
    return out[None]


def _split(window: int, h: int, w: int, wy: int, wx: int, y: int, x: int, oy: int, ox: int, shift: int) -> bool:
    """In the last row or column of windows, pixels that came round the edge are strangers."""
    rows = wy == h // window - 1 and (y < shift) != (oy < shift)
    columns = wx == w // window - 1 and (x < shift) != (ox < shift)
    return rows or columns


@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize("size", [(8, 8), (6, 7), (3, 5)])
def test_block_equals_its_definition(shift: int, size: tuple[int, int]) -> None:
    block = make_block(shift)
    x = torch.randn(1, *size, 8)
    with torch.no_grad():
        torch.testing.assert_close(block._attn(x), slow_attention(block, x), atol=1e-5, rtol=1e-5)


def test_whole_windows_equal_timm_and_odd_maps_do_not() -> None:
    options = {"always_partition": True, "strict_img_size": False, "features_only": True}
    torch.manual_seed(0)
    theirs = timm.create_model("swin_tiny_patch4_window7_224", **options).eval()
    ours = build_timm_backbone(
        "swin_tiny_patch4_window7_224", options={"always_partition": True, "strict_img_size": False}
    ).eval()
    ours.body.load_state_dict(theirs.state_dict())
    assert sum(isinstance(m, PadBeforeRollBlock) for m in ours.modules()) == 12
    with torch.no_grad():
        whole = torch.randn(1, 3, 224, 224)
        for a, b in zip(ours(whole), theirs(whole), strict=True):
            torch.testing.assert_close(a, b.permute(0, 3, 1, 2), atol=1e-4, rtol=1e-4)
        odd = torch.randn(1, 3, 96, 160)
        assert (ours(odd)[0] - theirs(odd)[0].permute(0, 3, 1, 2)).abs().max() > 1e-2
