"""Small models, and attention written out."""

from __future__ import annotations

import torch
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn
from unires.decoder import LinearProjection, VisionLanguageDecoder
from unires.grouping import GroupTokens, LanguageFilter
from unires.image_side import ClipImageSide, build_tower
from unires.model import UniRES

from partglee.text import TextBackend

TOWER = {"image_size": 64, "width": 32, "layers": 4, "head_width": 8}


def small_tower(seed: int = 0) -> VisionTransformer:
    torch.manual_seed(seed)
    return build_tower("ViT-B-16", options=TOWER).eval()


class LetterWords(TextBackend):
    """A text tower of one embedding: a token for each letter."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.width = width
        self.context_length = 17
        self.table = nn.Embedding(128, width)

    def tokenize(self, texts: list[str], *, context_length: int | None = None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        limit = context_length or self.context_length
        rows = [[1, *(ord(letter) % 128 for letter in text[: limit - 2]), 2] for text in texts]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        mask = torch.tensor([[True] * len(row) + [False] * (longest - len(row)) for row in rows])
        return ids, mask

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        states: Tensor = self.table(ids)
        return states

    def fingerprint(self) -> str:
        return "letters"


def small_model(*, num_low: int = 6, num_high: int = 3, self_attention: bool = True, seed: int = 0) -> UniRES:
    torch.manual_seed(seed)
    side = ClipImageSide(tower=small_tower(seed), groups=GroupTokens(width=32, num_low=num_low, num_high=num_high))
    words = LetterWords()
    filters = {
        level: LanguageFilter(width=32, word_dim=words.width, out_dim=24, num_heads=4, ffn_dim=40)
        for level in side.groups.levels
    }
    decoder = VisionLanguageDecoder(
        image_dim=32, word_dim=words.width, dim=24, num_layers=(2, 2), num_heads=4, ffn_dim=40,
        second_stage=bool(side.groups.levels), self_attention=self_attention,
    )  # fmt: skip
    return UniRES(
        image_side=side, text_encoder=words, filters=filters, decoder=decoder,
        projection=LinearProjection(dim=24, scale=4), size_divisibility=16,
    )  # fmt: skip


def slow_attention(
    x: Tensor, keys: Tensor, values: Tensor, weight: Tensor, bias: Tensor, out: nn.Linear, num_heads: int
) -> Tensor:
    """(Q, W), (K, W), (K, W) -> (Q, W): each head and each query for itself."""
    width = x.shape[-1]
    size = width // num_heads
    q = x @ weight[:width].T + bias[:width]
    k = keys @ weight[width : 2 * width].T + bias[width : 2 * width]
    v = values @ weight[2 * width :].T + bias[2 * width :]
    rows = []
    for query in q:
        heads = []
        for head in range(num_heads):
            at = slice(head * size, (head + 1) * size)
            share = torch.stack([query[at] @ key[at] / size**0.5 for key in k]).exp()
            share = share / share.sum()
            heads.append(sum(s * value[at] for s, value in zip(share, v, strict=True)))
        rows.append(torch.cat(heads))  # type: ignore[arg-type]
    return torch.stack(rows) @ out.weight.T + out.bias


def slow_block(block: ResidualAttentionBlock, x: Tensor) -> Tensor:
    """(K, W) -> (K, W): one layer of a vision transformer."""
    attention = block.attn
    normed = block.ln_1(x)
    x = x + slow_attention(
        normed, normed, normed, attention.in_proj_weight, attention.in_proj_bias, attention.out_proj,
        attention.num_heads,
    )  # fmt: skip
    return x + block.mlp(block.ln_2(x))
