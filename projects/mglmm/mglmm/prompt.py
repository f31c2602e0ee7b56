"""From the language model's state to what a mask decoder is asked with."""

from __future__ import annotations

from torch import Tensor, nn

from partglee.layers import at_least_float32


class PromptProjection(nn.Module):
    """Linear, non-linearity, linear. In full precision whatever the language model computes in.

    Args:
        state_dim: h of the language model.
        prompt_dim: of the mask decoder.
        activation: "relu" (LISA, GLaMM, and MGLMM's code) or "gelu" (MGLMM's text).

    Raises:
        ValueError: for another activation.
    """

    def __init__(self, *, state_dim: int, prompt_dim: int, activation: str = "relu") -> None:
        super().__init__()
        kinds = {"relu": nn.ReLU, "gelu": nn.GELU}
        if activation not in kinds:
            raise ValueError(f"activation must be one of {', '.join(kinds)}, got {activation!r}")
        self.layers = nn.Sequential(
            nn.Linear(state_dim, state_dim), kinds[activation](), nn.Linear(state_dim, prompt_dim)
        )

    def forward(self, states: Tensor) -> Tensor:
        """(N, h) -> (N, D)."""
        prompts: Tensor = self.layers(at_least_float32(states))
        return prompts
