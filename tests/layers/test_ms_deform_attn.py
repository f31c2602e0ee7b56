"""The attention module: where it looks, what autocast may touch, what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from partglee.layers.ms_deform_attn import MSDeformAttn

SHAPES = [(6, 5), (3, 4)]
ROWS = 42


@pytest.fixture
def module() -> MSDeformAttn:
    torch.manual_seed(0)
    return MSDeformAttn(embed_dim=16, num_heads=4, num_levels=2, num_points=3)


def inputs(queries: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, queries, 16, generator=generator), torch.randn(2, ROWS, 16, generator=generator)


def test_names_and_initial_ring(module: MSDeformAttn) -> None:
    assert [name for name, _ in module.named_children()] == [
        "sampling_offsets", "attention_weights", "value_proj", "output_proj",
    ]  # fmt: skip
    bias = module.sampling_offsets.bias.detach().view(4, 2, 3, 2)
    expected = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    for point in range(3):
        for level in range(2):
            torch.testing.assert_close(bias[:, level, point], expected * (point + 1))
    assert not module.sampling_offsets.weight.any()
    assert not module.attention_weights.weight.any() and not module.attention_weights.bias.any()


def naive(module: MSDeformAttn, query: Tensor, reference: Tensor, memory: Tensor) -> Tensor:
    """The same with loops over heads, levels and points, and grid_sample for one point at a time."""
    value = module.value_proj(memory).unflatten(-1, (4, 4))
    offsets = module.sampling_offsets(query).unflatten(-1, (4, 2, 3, 2))
    weights = module.attention_weights(query).unflatten(-1, (4, 6)).softmax(-1).unflatten(-1, (2, 3))
    heads = []
    for m in range(4):
        total: Tensor | float = 0.0
        start = 0
        for level, (h, w) in enumerate(SHAPES):
            maps = value[:, start : start + h * w, m].transpose(1, 2).unflatten(-1, (h, w))
            start += h * w
            for p in range(3):
                ref = reference[:, :, min(level, reference.shape[2] - 1)]
                if ref.shape[-1] == 2:
                    place = ref + offsets[:, :, m, level, p] / torch.tensor([w, h])
                else:
                    place = ref[..., :2] + offsets[:, :, m, level, p] / 3 * ref[..., 2:] * 0.5
                sample = torch.nn.functional.grid_sample(maps, place[:, :, None] * 2 - 1, align_corners=False)
                total = total + sample[..., 0].transpose(1, 2) * weights[:, :, m, level, p, None]
        assert isinstance(total, Tensor)
        heads.append(total)
    return module.output_proj(torch.cat(heads, dim=-1))


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("numbers", [2, 4])
def test_matches_the_loops(module: MSDeformAttn, levels: int, numbers: int) -> None:
    with torch.no_grad():
        module.sampling_offsets.weight.normal_(std=0.1)
        module.attention_weights.weight.normal_(std=0.5)
    query, memory = inputs()
    reference = torch.rand(2, 5, levels, numbers, generator=torch.Generator().manual_seed(2))
    expected = naive(module, query, reference, memory)
    torch.testing.assert_close(module(query, reference, memory, SHAPES), expected, rtol=1e-4, atol=1e-5)
    table, starts = torch.tensor(SHAPES), torch.tensor([0, 30])
    torch.testing.assert_close(module(query, reference, memory, table, starts), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(module(query, reference, memory, table), expected, rtol=1e-4, atol=1e-5)


def test_autocast_keeps_locations_and_weights_in_float32(module: MSDeformAttn, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, torch.dtype] = {}

    def spy(value: Tensor, shapes: object, starts: object, locations: Tensor, weights: Tensor) -> Tensor:
        seen.update(value=value.dtype, locations=locations.dtype, weights=weights.dtype)
        return value.new_zeros(value.shape[0], locations.shape[1], value.shape[2] * value.shape[3])

    monkeypatch.setattr("partglee.layers.ms_deform_attn.ms_deform_attn", spy)
    query, memory = inputs()
    with torch.autocast("cpu", torch.bfloat16):
        module(query, torch.rand(2, 5, 1, 2), memory, SHAPES)
    assert seen == {"value": torch.bfloat16, "locations": torch.float32, "weights": torch.float32}


@pytest.mark.parametrize("queries", [0, 5, ROWS])
def test_gradients_reach_everything(module: MSDeformAttn, queries: int) -> None:
    query, memory = (t.requires_grad_() for t in inputs(queries))
    reference = torch.rand(2, queries, 1, 4, requires_grad=True)
    out = module(query, reference, memory, SHAPES)
    assert out.shape == (2, queries, 16)
    out.sum().backward()
    assert all(p.grad is not None for p in module.parameters())
    assert memory.grad is not None and reference.grad is not None


def test_refusals(module: MSDeformAttn) -> None:
    query, memory = inputs()
    with pytest.raises(ValueError, match="multiple of num_heads"):
        MSDeformAttn(embed_dim=10, num_heads=4, num_levels=1, num_points=1)
    with pytest.raises(ValueError, match="2 levels, got 1"):
        module(query, torch.rand(2, 5, 1, 2), memory, [(6, 7)])
    with pytest.raises(ValueError, match=r"2 \(x, y\) or 4"):
        module(query, torch.rand(2, 5, 1, 3), memory, SHAPES)
    with pytest.raises(ValueError, match="spatial_shapes"):
        module(query, torch.rand(2, 5, 1, 2), memory, [(6, 5), (3, 5)])
