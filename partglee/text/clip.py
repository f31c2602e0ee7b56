"""CLIP's text tower as a source of token states.

N names, T tokens, W text width.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import open_clip
import torch
from open_clip.transformer import QuickGELU, TextTransformer
from torch import Tensor, nn

from partglee.text.backend import TextBackend, fingerprint_of


class ClipBackend(TextBackend):
    """open_clip's text transformer, read at its last hidden state: after the final norm, before CLIP's projection."""

    context_length = 77

    def __init__(self, *, architecture: str = "ViT-B-32-quickgelu") -> None:
        super().__init__()
        config = _text_config(architecture)
        act_layer = QuickGELU if config.pop("quick_gelu") else nn.GELU
        self.architecture = architecture
        self.tower = TextTransformer(**config, proj_type="none", output_dim=None, act_layer=act_layer)
        self.width: int = self.tower.width
        self.end_of_text: int = self.tower.vocab_size - 1

    def tokenize(self, texts: Sequence[str], *, context_length: int | None = None) -> tuple[Tensor, Tensor]:
        """Token ids (N, T) long and their mask (N, T), True = valid, begin and end of text included.

        Args:
            context_length: T, longer texts are cut before their end of text; None = the longest of these texts, at most
                77 (exact for valid tokens, since the tower is causal).
        """
        limit = self.context_length if context_length is None else context_length
        if not 2 <= limit <= self.context_length:
            raise ValueError(f"context_length must be in [2, {self.context_length}], got {context_length}")
        ids = open_clip.tokenize(list(texts), context_length=limit)
        length = ids.argmax(dim=-1) + 1  # end of text has the highest id
        full = [text for text, number in zip(texts, length.tolist(), strict=True) if number == limit]
        self.tell_cut([text for text in full if self._num_tokens(text) > limit], limit)
        mask = torch.arange(limit)[None] < length[:, None]
        ids = ids.masked_fill(~mask, self.end_of_text)  # the released model pads with end of text, open_clip with 0
        if context_length is None:
            longest = int(length.max()) if len(length) else 1
            ids, mask = ids[:, :longest], mask[:, :longest]
        return ids, mask

    def _num_tokens(self, text: str) -> int:
        """Of the whole text, begin and end included."""
        widest = 2 + 2 * len(text.encode())  # no token is shorter than a byte, no letter gets longer when it is cleaned
        return int(open_clip.tokenize([text], context_length=max(widest, 8)).argmax(dim=-1)) + 1

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(N, T) ids and mask -> (N, T, W) states. A pad sees the valid tokens and no pad, not even itself."""
        tower = self.tower
        num_tokens = ids.shape[1]
        x = tower.token_embedding(ids) + tower.positional_embedding[:num_tokens]
        x = tower.transformer(x, attn_mask=self._attn_mask(mask, x.dtype))
        return tower.ln_final(x)

    def _attn_mask(self, mask: Tensor, dtype: torch.dtype) -> Tensor:
        """(N * heads, T, T) additive mask: causal, pads hidden."""
        num_tokens = mask.shape[1]
        causal = torch.ones(num_tokens, num_tokens, dtype=torch.bool, device=mask.device).tril()
        allowed = causal & mask[:, None, :]
        additive = torch.zeros(allowed.shape, dtype=dtype, device=mask.device).masked_fill(~allowed, float("-inf"))
        return additive.repeat_interleave(self.tower.heads, dim=0)

    def fingerprint(self) -> str:
        """Hash of the architecture and the weights, for caches on disk."""
        return fingerprint_of(self.architecture, self.tower.state_dict())


@lru_cache(maxsize=8)
def _raw_config(architecture: str) -> dict[str, Any]:
    config = open_clip.get_model_config(architecture)
    if config is None or "hf_model_name" in config.get("text_cfg", {"hf_model_name": ""}):
        raise ValueError(
            f"MODEL.TEXT.ARCH must name an open_clip model with CLIP's own text transformer, got {architecture!r}; "
            "try 'ViT-B-32-quickgelu' (the released one) or see open_clip.list_models()"
        )
    return config


def _text_config(architecture: str) -> dict[str, Any]:
    config = _raw_config(architecture)
    text = {
        k: v for k, v in config["text_cfg"].items() if k in ("context_length", "vocab_size", "width", "heads", "layers")
    }
    return {**text, "quick_gelu": bool(config.get("quick_gelu", False))}
