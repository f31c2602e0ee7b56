"""Small tensor functions that several modules share."""

from __future__ import annotations

from torch import Tensor


def inverse_sigmoid(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Logit of `x` in [0, 1]; both x and 1 - x are held at `eps` at least, so the result stays finite."""
    x = x.clamp(0.0, 1.0)
    return x.clamp(min=eps).log() - (1.0 - x).clamp(min=eps).log()
