"""Convolution with norm, perceptrons, and attention over torch's fused kernel.

B batch, Q queries, T keys, E width, M heads.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_ROWS = 1024  # of a feed-forward's input at a time


class ConvNorm(nn.Module):
    """Convolution that keeps the size (or halves it with stride 2), group norm, and ReLU where asked."""

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        bias: bool = False,
        num_groups: int = 32,
        relu: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2, bias=bias
        )
        self.norm = nn.GroupNorm(num_groups, out_channels)
        self.relu = relu
        nn.init.xavier_uniform_(self.conv.weight)
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return _relu(x) if self.relu else x


class SeparableConvNorm(nn.Module):
    """A 3x3 convolution of each channel, one of 1x1 over them, group norm, ReLU: a ninth of the work of a full one."""

    def __init__(self, *, channels: int, num_groups: int = 32) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.conv = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = nn.GroupNorm(num_groups, channels)
        for conv in (self.depthwise, self.conv):
            nn.init.xavier_uniform_(conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        return _relu(self.norm(self.conv(self.depthwise(x))))


class MLP(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, *, input_dim: int, hidden_dim: int, output_dim: int, num_layers: int) -> None:
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, got {num_layers}")
        dims = [input_dim] + [hidden_dim] * (num_layers - 1) + [output_dim]
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(dims))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class FeedForward(nn.Module):
    """Linear, ReLU, Linear; the caller adds the residual.

    On a processor without gradients many rows are taken a few at a time, so that what lies between the two products
    (182 MB for an image of 800 x 1333) stays in the caches. Each row comes out the same.
    """

    def __init__(self, *, embed_dim: int, ffn_dim: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(embed_dim, ffn_dim)
        self.linear2 = nn.Linear(ffn_dim, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.numel() // x.shape[-1]
        whole = x.device.type != "cpu" or rows < 2 * _ROWS or torch.is_grad_enabled() or torch.compiler.is_compiling()
        if whole:
            return self.linear2(F.relu(self.linear1(x)))
        pieces = [self.linear2(F.relu_(self.linear1(piece))) for piece in x.flatten(0, -2).split(_ROWS)]
        return torch.cat(pieces).view(x.shape)


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
            query, key, value: one row where it serves all rows of the others; it is projected once.
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
        rows = max(q.shape[0], k.shape[0])
        q, k, v = (t.expand(rows, -1, -1, -1) for t in (q, k, v))  # the fused kernel does not broadcast
        allowed = None
        if attn_mask is not None:
            allowed = ~attn_mask if attn_mask.ndim == 2 else ~attn_mask[:, None]
        out = _attention(q, k, v, allowed)
        return self.out_proj(out.transpose(1, 2).flatten(2))

    def single_key(self, value: Tensor) -> Tensor:
        """Attention to one key only: the softmax of a single logit is 1, so the query plays no role.

        (..., E) the key's value -> (..., E), to be added to every query.
        """
        e = self.embed_dim
        return self.out_proj(F.linear(value, self.in_proj_weight[2 * e :], self.in_proj_bias[2 * e :]))


def _relu(x: Tensor) -> Tensor:
    """Of numbers that nobody else holds: without gradients in place."""
    return F.relu(x, inplace=not torch.is_grad_enabled())


def _attention(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None) -> Tensor:
    """torch's fused attention; under autocast on a CPU in float32: bfloat16 takes two to four times as long there."""
    if q.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
    with torch.autocast("cpu", enabled=False):
        return F.scaled_dot_product_attention(q.float(), k.float(), v.float(), attn_mask=allowed)
