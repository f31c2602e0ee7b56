"""Early fusion of image memory and text tokens (as in GLIP, arXiv 2112.03857).

B images, S memory tokens, T text tokens, E width, F the attention's inner width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class EarlyFusion(nn.Module):
    """Cross-attention between the image and the text, in both directions from the same projections.

    Attention runs through torch's fused kernel, so the (S, T) matrix never exists; the released code's clamp of the
    logits at 5e4 is left out, since it can only act on attention that is already one-hot.

    Args:
        residual_from_norm: add the update to the *normalised* input (released) instead of to the input.
        attend_to_padding: let padded text positions take part (released: the mask there masks nothing).
        update_text: also return updated text tokens; released weights carry that branch but its result is dropped,
            so with False its weights are kept, frozen, for the checkpoint's sake.
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        inner_dim: int,
        num_heads: int,
        dropout: float = 0.1,
        residual_from_norm: bool = True,
        attend_to_padding: bool = True,
        update_text: bool = False,
    ) -> None:
        super().__init__()
        if inner_dim % num_heads:
            raise ValueError(f"inner_dim {inner_dim} must be a multiple of num_heads {num_heads}")
        self.num_heads = num_heads
        self.dropout = dropout
        self.residual_from_norm = residual_from_norm
        self.attend_to_padding = attend_to_padding
        self.update_text = update_text
        self.image_norm = nn.LayerNorm(embed_dim)
        self.text_norm = nn.LayerNorm(embed_dim)
        self.image_proj = nn.Linear(embed_dim, inner_dim)
        self.text_proj = nn.Linear(embed_dim, inner_dim)
        self.image_value = nn.Linear(embed_dim, inner_dim)
        self.text_value = nn.Linear(embed_dim, inner_dim)
        self.image_out = nn.Linear(inner_dim, embed_dim)
        self.text_out = nn.Linear(inner_dim, embed_dim)
        self.image_scale = nn.Parameter(torch.full((embed_dim,), 1 / 6))
        self.text_scale = nn.Parameter(torch.full((embed_dim,), 1 / 6))
        for linear in (
            self.image_proj, self.text_proj, self.image_value, self.text_value, self.image_out, self.text_out,
        ):  # fmt: skip
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        if not update_text:
            self.image_value.requires_grad_(False)
            self.text_out.requires_grad_(False)
            self.text_scale.requires_grad_(False)

    def forward(self, memory: Tensor, tokens: Tensor, token_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, S, E) memory and (B or 1, T, E) tokens -> the same two, updated.

        Args:
            token_mask: (B or 1, T) bool, True = valid; read only without `attend_to_padding`.
        """
        tokens = tokens.expand(memory.shape[0], -1, -1).to(memory.dtype)
        image, text = self.image_norm(memory), self.text_norm(tokens)
        image_query, text_query = self._heads(self.image_proj(image)), self._heads(self.text_proj(text))
        dropout = self.dropout if self.training else 0.0
        visible = None
        if not self.attend_to_padding and token_mask is not None:
            visible = token_mask[:, None, None].expand(memory.shape[0], -1, -1, -1)
        update = F.scaled_dot_product_attention(
            image_query, text_query, self._heads(self.text_value(text)), attn_mask=visible, dropout_p=dropout
        )
        skip = image if self.residual_from_norm else memory
        fused = skip + self.image_scale * self.image_out(update.transpose(1, 2).flatten(2))
        if not self.update_text:
            return fused, tokens
        update = F.scaled_dot_product_attention(
            text_query, image_query, self._heads(self.image_value(image)), dropout_p=dropout
        )
        skip = text if self.residual_from_norm else tokens
        return fused, skip + self.text_scale * self.text_out(update.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
