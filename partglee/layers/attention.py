"""Multi-head attention over torch's fused kernel.

B batch, Q queries, T keys, E width, M heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MultiheadAttention(nn.Module):
    """`torch.nn.MultiheadAttention`'s parameters (same names and shapes), batch first, through fused attention."""

    def __init__(self, *, embed_dim: int, num_heads: int) -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise ValueError(f"embed_dim {embed_dim} must be a multiple of num_heads {num_heads}")
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * embed_dim, embed_dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * embed_dim))
        self.out_proj = nn.Linear(embed_dim, embed_dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.in_proj_bias)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """(B, Q, E), (B, T, E), (B, T, E) -> (B, Q, E).

        Args:
            attn_mask: bool, True = blocked, (Q, T) or (B, Q, T); a row must leave at least one key open.
        """
        e = self.embed_dim
        weight, bias = self.in_proj_weight, self.in_proj_bias
        if query is key:  # self-attention with one position for both: one matrix product instead of two
            q, k = F.linear(query, weight[: 2 * e], bias[: 2 * e]).chunk(2, dim=-1)
        else:
            q = F.linear(query, weight[:e], bias[:e])
            k = F.linear(key, weight[e : 2 * e], bias[e : 2 * e])
        v = F.linear(value, weight[2 * e :], bias[2 * e :])
        q, k, v = (t.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for t in (q, k, v))
        allowed = None
        if attn_mask is not None:
            allowed = ~attn_mask if attn_mask.ndim == 2 else ~attn_mask[:, None]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
        return self.out_proj(out.transpose(1, 2).flatten(2))

    def single_key(self, value: Tensor) -> Tensor:
        """Attention to one key only: the softmax of a single logit is 1, so the query plays no role.

        (..., E) the key's value -> (..., E), to be added to every query.
        """
        e = self.embed_dim
        return self.out_proj(F.linear(value, self.in_proj_weight[2 * e :], self.in_proj_bias[2 * e :]))
