"""The feed-forward in pieces: each row as in the whole."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from partglee.layers import FeedForward, blocks


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 50])
def test_pieces_give_the_whole(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_ROWS", 4)
    torch.manual_seed(0)
    layer, x = FeedForward(embed_dim=6, ffn_dim=10), torch.randn(2, rows, 6)
    kept = x.clone()
    products: list[int] = []
    layer.linear1.register_forward_hook(lambda *args: products.append(args[1][0].shape[:-1].numel()))
    wanted = F.relu(x @ layer.linear1.weight.T + layer.linear1.bias) @ layer.linear2.weight.T + layer.linear2.bias
    with torch.no_grad():
        found = layer(x)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    assert torch.equal(x, kept) and found.shape == x.shape
    assert max(products) <= (4 if 2 * rows >= 8 else 2 * rows)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    products.clear()
    assert layer(x).requires_grad and products == [2 * rows], "gradients need the whole"
