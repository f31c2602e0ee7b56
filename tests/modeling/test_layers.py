"""Layers against slow, obvious counterparts."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from partglee.layers import MLP, MultiheadAttention, inverse_sigmoid, sine_position_boxes, sine_position_map
from partglee.layers.blocks import _attention as fused_attention
from partglee.modeling.early_fusion import EarlyFusion
from partglee.modeling.part_decoder import QFormer


def attention_pair() -> tuple[MultiheadAttention, nn.MultiheadAttention]:
    torch.manual_seed(0)
    ours = MultiheadAttention(embed_dim=16, num_heads=4)
    nn.init.normal_(ours.in_proj_bias)
    theirs = nn.MultiheadAttention(16, 4, batch_first=True)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def test_attention_is_float32_under_autocast_on_a_cpu() -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 4, 7, 8).bfloat16() for _ in range(3))
    with torch.autocast("cpu", torch.bfloat16):
        out = fused_attention(q, k, v, None)
    weights = (q.float() @ k.float().transpose(-1, -2) / 8**0.5).softmax(-1)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, weights @ v.float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("same", [False, True])
def test_attention_equals_torchs(same: bool) -> None:
    ours, theirs = attention_pair()
    query, value = torch.randn(2, 5, 16), torch.randn(2, 5, 16)
    key = query if same else torch.randn(2, 5, 16)
    blocked = torch.rand(5, 5) < 0.4
    blocked.fill_diagonal_(False)
    torch.testing.assert_close(ours(query, key, value, blocked), theirs(query, key, value, attn_mask=blocked)[0])
    each = torch.stack((blocked, torch.zeros_like(blocked)))
    torch.testing.assert_close(ours(query, key, value, each)[1], theirs(query, key, value)[0][1])


@pytest.mark.parametrize("one", ["query", "keys", "both"])
def test_one_row_serves_all(one: str) -> None:
    """Of queries or of keys, as if it were repeated; each row has its own mask."""
    ours, theirs = attention_pair()
    query = torch.randn(1 if one != "keys" else 3, 5, 16)
    key, value = (torch.randn(1 if one != "query" else 3, 4, 16) for _ in range(2))
    blocked = torch.rand(3 if one != "both" else 1, 5, 4) < 0.4
    blocked[..., 0] = False
    found = ours(query, key, value, blocked)
    assert len(found) == len(blocked)
    for row in range(len(blocked)):
        q, k, v = (x[row % len(x)][None] for x in (query, key, value))
        torch.testing.assert_close(found[row], theirs(q, k, v, attn_mask=blocked[row])[0][0])


def test_single_key_equals_attention_to_one_key() -> None:
    ours, theirs = attention_pair()
    query, value = torch.randn(3, 7, 16), torch.randn(3, 16)
    expected = theirs(query, torch.randn(3, 1, 16), value[:, None])[0]
    torch.testing.assert_close(ours.single_key(value)[:, None].expand_as(expected), expected)


def test_attention_needs_divisible_width() -> None:
    with pytest.raises(ValueError, match="multiple of num_heads"):
        MultiheadAttention(embed_dim=10, num_heads=4)


def test_mlp_is_linear_relu_linear() -> None:
    mlp = MLP(input_dim=3, hidden_dim=5, output_dim=2, num_layers=3)
    x = torch.randn(4, 3)
    a, b, c = mlp.layers
    torch.testing.assert_close(mlp(x), c(b(a(x).relu()).relu()))
    with pytest.raises(ValueError, match="num_layers"):
        MLP(input_dim=3, hidden_dim=5, output_dim=2, num_layers=0)


def test_inverse_sigmoid() -> None:
    p = torch.tensor([0.25, 0.5, 0.9])
    torch.testing.assert_close(inverse_sigmoid(p).sigmoid(), p)
    assert torch.isfinite(inverse_sigmoid(torch.tensor([0.0, 1.0]))).all()


def test_position_of_a_pixel_by_hand() -> None:
    encoded = sine_position_map(2, 3, 8, device=torch.device("cpu"))[0]
    row, column = 1, 2  # the last pixel
    y, x = 2 * math.pi * (row + 1) / (2 + 1e-6), 2 * math.pi * (column + 1) / (3 + 1e-6)
    expected = [f(v / t) for v in (y, x) for t in (1.0, 100.0) for f in (math.sin, math.cos)]
    torch.testing.assert_close(encoded[row * 3 + column], torch.tensor(expected), atol=1e-5, rtol=0)


def test_position_of_a_box_by_hand() -> None:
    box = torch.tensor([0.1, 0.2, 0.3, 0.4])
    expected = [
        f(2 * math.pi * v / t) for v in (0.2, 0.1, 0.3, 0.4) for t in (1.0, 100.0) for f in (math.sin, math.cos)
    ]
    torch.testing.assert_close(sine_position_boxes(box, 8), torch.tensor(expected), atol=1e-5, rtol=0)


def fusion(**options: bool) -> EarlyFusion:
    torch.manual_seed(1)
    block = EarlyFusion(embed_dim=8, inner_dim=12, num_heads=3, **options).eval()
    for p in block.parameters():
        nn.init.normal_(p, std=0.3)
    return block


def slow_fusion(block: EarlyFusion, memory: torch.Tensor, tokens: torch.Tensor, mask: torch.Tensor | None) -> list:
    """The definition, image by image and head by head."""
    outputs = []
    for i in range(len(memory)):
        image, text = block.image_norm(memory[i]), block.text_norm(tokens[i])
        rows, columns = [], []
        for h in range(block.num_heads):
            width = block.image_proj.out_features // block.num_heads
            part = slice(h * width, (h + 1) * width)
            logits = (block.image_proj(image)[:, part] * width**-0.5) @ block.text_proj(text)[:, part].T
            seen = logits if mask is None else logits.masked_fill(~mask[i][None], float("-inf"))
            rows.append(seen.softmax(dim=1) @ block.text_value(text)[:, part])
            columns.append(logits.softmax(dim=0).T @ block.image_value(image)[:, part])
        skips = (image, text) if block.residual_from_norm else (memory[i], tokens[i])
        outputs.append(
            (
                skips[0] + block.image_scale * block.image_out(torch.cat(rows, 1)),
                skips[1] + block.text_scale * block.text_out(torch.cat(columns, 1)),
            )
        )
    return outputs


@pytest.mark.parametrize("residual_from_norm", [True, False])
@pytest.mark.parametrize("attend_to_padding", [True, False])
def test_fusion_equals_its_definition(residual_from_norm: bool, attend_to_padding: bool) -> None:
    block = fusion(residual_from_norm=residual_from_norm, attend_to_padding=attend_to_padding, update_text=True)
    memory, tokens = torch.randn(2, 9, 8), torch.randn(2, 4, 8)
    mask = torch.tensor([[True, True, False, False], [True, True, True, True]])
    image, text = block(memory, tokens, mask)
    for i, (slow_image, slow_text) in enumerate(
        slow_fusion(block, memory, tokens, None if attend_to_padding else mask)
    ):
        torch.testing.assert_close(image[i], slow_image, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(text[i], slow_text, atol=1e-5, rtol=1e-5)


def test_released_fusion_leaves_the_text_alone() -> None:
    block = fusion()
    tokens = torch.randn(1, 4, 8)
    image, text = block(torch.randn(2, 9, 8), tokens)
    assert torch.equal(text, tokens.expand(2, -1, -1)) and image.shape == (2, 9, 8)
    assert {n for n, p in block.named_parameters() if not p.requires_grad} == {
        "image_value.weight", "image_value.bias", "text_out.weight", "text_out.bias", "text_scale",
    }  # fmt: skip


def test_fusion_of_shared_tokens_equals_copies() -> None:
    block = fusion()
    memory, tokens = torch.randn(2, 9, 8), torch.randn(1, 4, 8)
    torch.testing.assert_close(block(memory, tokens)[0], block(memory, tokens.repeat(2, 1, 1))[0])


def test_qformer_parses_each_object_alone() -> None:
    torch.manual_seed(0)
    qformer = QFormer(embed_dim=8, num_parsing_queries=3, num_layers=2, num_heads=2, ffn_dim=16)
    queries, rows = torch.randn(2, 6, 8), torch.tensor([[4, 1], [0, 5]])
    parsed = qformer(queries, rows)
    assert parsed.content.shape == (2, 6, 8)
    assert parsed.parent.tolist() == [[4, 4, 4, 1, 1, 1], [0, 0, 0, 5, 5, 5]]
    alone = qformer(queries[1:, 5:6], torch.tensor([[0]]))
    torch.testing.assert_close(parsed.content[1, 3:], alone.content[0])


def test_qformer_equals_torchs_decoder_layer() -> None:
    """Post-norm decoder layers with real attention to the one object token, positions on queries and key."""
    torch.manual_seed(0)
    qformer = QFormer(embed_dim=8, num_parsing_queries=3, num_layers=2, num_heads=2, ffn_dim=16)
    objects = torch.randn(1, 4, 8)
    x = qformer.content.expand(4, -1, -1)
    memory = objects[0][:, None]
    key = memory + torch.randn(1, 1, 8)  # the released position of the object token plays no role
    for layer in qformer.layers:
        both = []
        for attention in (layer.self_attn, layer.object_attn):
            slow = nn.MultiheadAttention(8, 2, batch_first=True)
            slow.load_state_dict(attention.state_dict())
            both.append(slow)
        q = x + qformer.position
        x = layer.self_norm(x + both[0](q, q, x)[0])
        x = layer.object_norm(x + both[1](x + qformer.position, key, memory)[0])
        x = layer.ffn_norm(x + layer.ffn.linear2(layer.ffn.linear1(x).relu()))
    expected = qformer.norm(x).reshape(1, 12, 8)
    torch.testing.assert_close(qformer(objects, torch.arange(4)[None]).content, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (3, 1), (3, 3)])
@pytest.mark.parametrize("attend_to_padding", [True, False])
@pytest.mark.parametrize("residual_from_norm", [True, False])
def test_fusion_without_wide_states(
    shape: tuple[int, int], attend_to_padding: bool, residual_from_norm: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without gradients a wide block multiplies its projections out; one image or one text serves all rows."""
    torch.manual_seed(0)
    block = EarlyFusion(
        embed_dim=8, inner_dim=96, num_heads=3, attend_to_padding=attend_to_padding,
        residual_from_norm=residual_from_norm,
    ).eval()  # fmt: skip
    for p in block.parameters():
        nn.init.normal_(p, std=0.3)
    memory, tokens = torch.randn(shape[0], 1100, 8), torch.randn(shape[1], 4, 8)
    mask = torch.tensor([[True, True, False, False], [True] * 4, [True, False, True, False]])[: shape[1]]
    rows = max(shape)
    copies = memory.expand(rows, -1, -1), tokens.expand(rows, -1, -1), mask.expand(rows, -1)
    slow = slow_fusion(block, copies[0], copies[1], None if attend_to_padding else copies[2])
    used: list[int] = []
    whole = EarlyFusion._update_in_pieces
    monkeypatch.setattr(EarlyFusion, "_update_in_pieces", lambda *a: (used.append(1), whole(*a))[1])
    with torch.no_grad():
        quick, text = block(memory, tokens, mask)
        assert used == [1] and torch.equal(text, copies[1])
        half = block(*copies)[0]
    with_gradients = block(memory, tokens, mask)[0]
    assert len(used) == 2
    for found in (quick, half, with_gradients):
        torch.testing.assert_close(found, torch.stack([image for image, _ in slow]), atol=1e-4, rtol=1e-4)
    narrow, words = fusion(), torch.randn(1, 20, 8)  # narrow heads and many words: states are less work
    with torch.no_grad():
        assert narrow(memory, words)[0].shape == (shape[0], 1100, 8) and len(used) == 2


def test_fusion_in_half_precision() -> None:
    block = EarlyFusion(embed_dim=8, inner_dim=96, num_heads=3).eval()
    memory, tokens = torch.randn(1, 40, 8), torch.randn(2, 4, 8)
    with torch.no_grad():
        expected = block(memory, tokens)[0]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = block(memory, tokens)[0]
    torch.testing.assert_close(found.float(), expected, atol=3e-2, rtol=3e-2)
