"""Numbers around positions: sine encodings of pixels and boxes ("Attention is all you need", section 3.5), centres of
pixels, logits, and the precision that they need.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_TEMPERATURE = 10000.0


def _encode(position: Tensor, num_features: int) -> Tensor:
    """(...,) angles in radians -> (..., num_features), sine and cosine interleaved; computed in float32."""
    pairs = torch.arange(0, num_features, 2, dtype=torch.float32, device=position.device)
    angle = position.float().unsqueeze(-1) / _TEMPERATURE ** (pairs / num_features)
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(-2)


def sine_position_map(height: int, width: int, embed_dim: int, *, device: torch.device) -> Tensor:
    """(1, height * width, embed_dim) encoding of a map's pixels: first half y, second half x, each over (0, 2 pi]."""
    num_features = embed_dim // 2
    scale = 2 * math.pi
    y = torch.arange(1, height + 1, dtype=torch.float32, device=device) / (height + 1e-6) * scale
    x = torch.arange(1, width + 1, dtype=torch.float32, device=device) / (width + 1e-6) * scale
    rows = _encode(y, num_features)[:, None].expand(height, width, num_features)
    columns = _encode(x, num_features)[None].expand(height, width, num_features)
    return torch.cat((rows, columns), dim=-1).reshape(1, height * width, 2 * num_features)


def sine_position_boxes(boxes: Tensor, embed_dim: int) -> Tensor:
    """(..., 4) cxcywh in [0, 1] -> (..., 2 * embed_dim), half a width for each of y, x, w, h, in that order."""
    x, y, w, h = boxes.float().mul(2 * math.pi).unbind(-1)
    return _encode(torch.stack((y, x, w, h), dim=-1), embed_dim // 2).flatten(-2)


def inverse_sigmoid(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Logit of `x` in [0, 1]; both x and 1 - x are held at `eps` at least, so the result stays finite."""
    x = x.clamp(0.0, 1.0)
    return x.clamp(min=eps).log() - (1.0 - x).clamp(min=eps).log()


def pixel_centres(size: int, *, device: torch.device) -> Tensor:
    """(size,) centres of a row of pixels, in [0, 1].

    Divides by a tensor: CUDA multiplies by a rounded reciprocal when the divisor is a number, and the last of 50
    centres then falls on the other side of a limit than on the CPU.
    """
    return (torch.arange(size, dtype=torch.float32, device=device) + 0.5) / torch.full((), size, device=device).float()


def at_least_float32(x: Tensor) -> Tensor:
    """Half types widened, everything else as it is."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
