"""Sine position encodings of pixels and boxes ("Attention is all you need", section 3.5)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_TEMPERATURE = 10000.0


def _encode(position: Tensor, num_features: int) -> Tensor:
    """(...,) angles in radians -> (..., num_features), sine and cosine interleaved; computed in float32."""
    index = torch.arange(num_features, dtype=torch.float32, device=position.device)
    frequency = _TEMPERATURE ** (2 * index.div(2, rounding_mode="floor") / num_features)
    angle = position.float().unsqueeze(-1) / frequency
    return torch.stack((angle[..., 0::2].sin(), angle[..., 1::2].cos()), dim=-1).flatten(-2)


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
    num_features = embed_dim // 2
    return torch.cat([_encode(value, num_features) for value in (y, x, w, h)], dim=-1)
