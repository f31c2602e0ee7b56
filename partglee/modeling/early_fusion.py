"""Early fusion of image memory and text tokens (as in GLIP, arXiv 2112.03857).

B images, S memory tokens, T text tokens, E width, F the attention's inner width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_PIXELS = 512  # at a time, so that their attention to all words stays in the caches


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
        """(B or 1, S, E) memory and (B or 1, T, E) tokens -> (B, S, E) and (B, T, E), updated; one row serves all.

        Args:
            token_mask: (B or 1, T) bool, True = valid; read only without `attend_to_padding`.
        """
        rows = max(len(memory), len(tokens))
        tokens = tokens.expand(rows, -1, -1).to(memory.dtype)
        image, text = self.image_norm(memory), self.text_norm(tokens)
        skip = image if self.residual_from_norm else memory
        visible = None if self.attend_to_padding or token_mask is None else token_mask.expand(rows, -1)
        if self._without_states(memory, tokens):
            return skip + self.image_scale * self._update_in_pieces(image, text, visible), tokens
        image_query, text_query = self._heads(self.image_proj(image)), self._heads(self.text_proj(text))
        image_query = image_query.expand(rows, -1, -1, -1)  # the fused kernel does not broadcast
        dropout = self.dropout if self.training else 0.0
        update = F.scaled_dot_product_attention(
            image_query,
            text_query,
            self._heads(self.text_value(text)),
            attn_mask=None if visible is None else visible[:, None, None],
            dropout_p=dropout,
        )
        fused = skip + self.image_scale * self.image_out(update.transpose(1, 2).flatten(2))
        if not self.update_text:
            return fused, tokens
        image_value = self._heads(self.image_value(image)).expand(rows, -1, -1, -1)
        update = F.scaled_dot_product_attention(text_query, image_query, image_value, dropout_p=dropout)
        skip = text if self.residual_from_norm else tokens
        return fused, skip + self.text_scale * self.text_out(update.transpose(1, 2).flatten(2))

    def _without_states(self, memory: Tensor, tokens: Tensor) -> bool:
        """Whether `_update_in_pieces` gives the same for less: on a processor, without gradients, for short texts."""
        if memory.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return False
        inner, width = self.image_proj.weight.shape
        count = tokens.shape[1]
        products = 2 * self.num_heads * count * width  # of a pixel, here; with states of width F:
        return not self.update_text and not self.training and products < 2 * inner * (width + count)

    def _update_in_pieces(self, image: Tensor, text: Tensor, visible: Tensor | None) -> Tensor:
        """(B or 1, S, E), (B, T, E) normalised, (B, T) bool -> (B, S, E), without a state of width F for any pixel.

        With x a pixel, M heads and a_mt their attention: x W_q . k_mt is x . (W_q k_mt), and the sum of a_mt v_mt W_out
        is the sum of a_mt (v_mt W_out). The brackets are the same for all pixels, so that a pixel costs products with
        M T vectors of width E: a quarter of what the released model's projections and attention cost.
        """
        heads, inner, width = self.num_heads, *self.image_proj.weight.shape
        scale = (inner // heads) ** -0.5
        query, value = self._heads(self.text_proj(text)) * scale, self._heads(self.text_value(text))  # (B, M, T, d)
        keys = (query @ self.image_proj.weight.view(heads, -1, width)).flatten(1, 2).transpose(1, 2)  # (B, E, M T)
        bias = (query @ self.image_proj.bias.view(heads, -1, 1)).squeeze(-1)  # (B, M, T)
        if visible is not None:
            bias = bias.masked_fill(~visible[:, None], float("-inf"))
        values = (value @ self.image_out.weight.t().view(heads, -1, width)).flatten(1, 2)  # (B, M T, E)
        out = []
        for row in range(len(text)):
            for piece in image[row if len(image) > 1 else 0].split(_PIXELS):
                logits = torch.addmm(bias[row].flatten(), piece, keys[row]).unflatten(1, (heads, -1))
                out.append(torch.addmm(self.image_out.bias, logits.softmax(dim=-1).flatten(1), values[row]))
        return torch.cat(out).view(len(text), -1, width)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
