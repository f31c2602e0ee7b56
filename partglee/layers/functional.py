"""Small tensor functions that several modules share."""

from __future__ import annotations

import torch
from torch import Tensor


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
