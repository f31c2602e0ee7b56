"""Bad input is a named error or a defined result, whichever way is computed."""

from __future__ import annotations

import pytest
import torch
from msda_inputs import MODES, Inputs, make_inputs, needs_native

from partglee.ops import ms_deform_attn, use_ops
from partglee.ops.ms_deform_attn_reference import ms_deform_attn_embedding_bag

every_mode = pytest.mark.parametrize("mode", MODES)


@every_mode
@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"value": torch.zeros(2, 43, 12)}, ValueError, r"value must be \(N, S, M, D\)"),
        ({"locations": torch.zeros(2, 7, 3, 3, 2)}, ValueError, "sampling_locations must be"),
        ({"locations": torch.zeros(2, 7, 3, 3, 2, 3)}, ValueError, "sampling_locations must be"),
        ({"locations": torch.zeros(2, 7, 5, 3, 2, 2)}, ValueError, "M = 3"),
        ({"locations": torch.zeros(1, 7, 3, 3, 2, 2)}, ValueError, "N = 2"),
        ({"weights": torch.zeros(2, 7, 3, 6)}, ValueError, "attention_weights must have the shape"),
        ({"shapes": torch.tensor([[6, 5], [3, 4]])}, ValueError, "L = 2"),
        ({"shapes": torch.tensor([6, 3, 1])}, ValueError, "spatial_shapes must be"),
        ({"starts": torch.tensor([0, 30])}, ValueError, "level_start_index must be"),
        ({"shapes": torch.tensor([[6, 5], [3, 4], [1, 1]]).int()}, TypeError, "spatial_shapes must be int64"),
        ({"starts": torch.tensor([0, 30, 42]).int()}, TypeError, "level_start_index must be int64"),
        ({"value": torch.zeros(2, 43, 3, 4).int()}, TypeError, "value must be float32"),
        ({"locations": torch.zeros(2, 7, 3, 3, 2, 2).bfloat16()}, TypeError, "half precision moves locations"),
        ({"weights": torch.zeros(2, 7, 3, 3, 2).half()}, TypeError, "attention_weights must be"),
        ({"value": torch.zeros(2, 43, 3, 4, device="meta")}, ValueError, "one device"),
    ],
)  # fmt: skip
def test_named_errors(mode: str, change: dict[str, torch.Tensor], error: type, words: str) -> None:
    inputs = make_inputs(dtype=torch.float32)._replace(**change)
    with use_ops(mode), pytest.raises(error, match=words):
        ms_deform_attn(*inputs)


@every_mode
@pytest.mark.parametrize("shapes", [[(6, 5), (3, 4), (1, 2)], [(6, 5), (3, 4), (0, 1)], [(6, 5), (-3, -4), (1, 1)]])
def test_levels_that_do_not_add_up(mode: str, shapes: list[tuple[int, int]]) -> None:
    inputs = make_inputs(dtype=torch.float32)
    for form in (shapes, torch.tensor(shapes)):
        with use_ops(mode), pytest.raises((ValueError, RuntimeError), match="spatial_shapes"):
            ms_deform_attn(inputs.value, form, None, *inputs[3:])


@every_mode
def test_starts_that_do_not_fit_the_shapes(mode: str) -> None:
    inputs = make_inputs(dtype=torch.float32)._replace(starts=torch.tensor([0, 29, 42]))
    with use_ops(mode), pytest.raises((ValueError, RuntimeError), match="level_start_index"):
        ms_deform_attn(*inputs)


@every_mode
@pytest.mark.parametrize("sizes", [{"images": 0}, {"queries": 0}, {"points": 0}, {"heads": 0}, {"channels": 0}])
def test_nothing_to_do(mode: str, sizes: dict[str, int]) -> None:
    inputs = make_inputs(**sizes, dtype=torch.float32)
    leaves = [t.requires_grad_() for t in (inputs.value, inputs.locations, inputs.weights)]
    with use_ops(mode):
        out = ms_deform_attn(leaves[0], inputs.shapes, inputs.starts, leaves[1], leaves[2])
        out.sum().backward()
    images, _, heads, channels = inputs.value.shape
    assert out.shape == (images, inputs.locations.shape[1], heads * channels)
    assert not out.any()
    assert inputs.value.grad is not None and not inputs.value.grad.any()


@every_mode
def test_one_pixel_and_empty_levels(mode: str) -> None:
    inputs = make_inputs(shapes=[(1, 1), (0, 4), (2, 2)])
    inputs.locations[...] = 0.5
    inputs.weights[...] = 0
    inputs.weights[:, :, :, 0, 0] = 1
    inputs.weights[:, :, :, 1, 0] = 1  # a level without pixels contributes nothing
    with use_ops(mode):
        out = ms_deform_attn(*inputs)
    torch.testing.assert_close(out, inputs.value[:, :1].flatten(2).expand_as(out))


@every_mode
@pytest.mark.parametrize("place", [float("nan"), float("inf"), -float("inf"), 1e30, -1e30, 7.0, -3.0])
@pytest.mark.parametrize("queries", [7, 43])
def test_locations_that_read_nothing(mode: str, place: float, queries: int) -> None:
    """A location outside, NaN or infinite in one coordinate contributes 0, and so do its gradients."""
    inputs = make_inputs(queries=queries, dtype=torch.float32)
    for axis in (0, 1):
        locations = inputs.locations.clone()
        locations[..., axis] = place
        leaves = [t.clone().requires_grad_() for t in (inputs.value, locations, inputs.weights)]
        with use_ops(mode):
            out = ms_deform_attn(leaves[0], inputs.shapes, inputs.starts, leaves[1], leaves[2])
            out.sum().backward()
        assert not out.any()
        assert all(leaf.grad is not None and not leaf.grad.any() for leaf in leaves)


@every_mode
@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
@pytest.mark.parametrize("queries", [3, 16])
def test_bad_values_stay_where_they_are(mode: str, bad: float, queries: int) -> None:
    """A value that is not finite shows where it is read, and does not leak through the zero weight of a corner."""
    inputs = make_inputs(
        images=1,
        queries=queries,
        heads=1,
        channels=8,
        points=1,
        shapes=[(4, 4)],
        dtype=torch.float32,
    )
    inputs.weights[...] = 1
    inputs.value[0, 0] = bad  # pixel (0, 0)
    inputs.locations[...] = 2.0  # outside: its clamped corner would be some pixel
    inputs.locations[0, 0] = torch.tensor([0.9, 0.1])  # near the border, far from the pixel
    inputs.locations[0, 1] = torch.tensor([0.01, 0.01])  # half outside, at the pixel
    inputs.value[0, 15] = bad  # the last pixel, next to what lies outside
    with use_ops(mode):
        out = ms_deform_attn(*inputs)
    assert out[0, 0].isfinite().all() and not out[0, 1].isfinite().any()
    assert not out[0, 2:].any()


def test_more_than_2_to_the_31_elements() -> None:
    """Row numbers of the embedding_bag path beyond int32 elements; meta tensors carry the arithmetic, not memory."""
    value = torch.empty(2, 2**21, 8, 128, dtype=torch.bfloat16, device="meta")  # 2**32 elements, 2**25 rows
    shapes = torch.empty(1, 2, dtype=torch.int64, device="meta")
    locations = torch.empty(2, 3, 8, 1, 1, 2, device="meta")
    starts = torch.empty(1, dtype=torch.int64, device="meta")
    out = ms_deform_attn_embedding_bag(value, shapes, starts, locations, locations[..., 0])
    assert out.shape == (2, 3, 1024)


@needs_native
@pytest.mark.slow
def test_native_beyond_2_to_the_31_elements() -> None:
    """Offsets of 64 bits: the last rows of a value of 2^31 + 2^15 bfloat16 elements (4.3 GB)."""
    rows = 2**16 + 1
    inputs = make_inputs(images=1, queries=2, heads=1, channels=1, points=1, shapes=[(rows, 1)], dtype=torch.float32)
    value = torch.zeros(1, rows, 1, 2**15, dtype=torch.bfloat16)
    value[0, -1] = 3
    inputs.weights[...] = 1
    inputs.locations[...] = torch.tensor([0.5, 1 - 0.5 / rows])
    with use_ops("native"):
        out = ms_deform_attn(value, inputs.shapes, inputs.starts, inputs.locations, inputs.weights)
    torch.testing.assert_close(out.float(), torch.full_like(out, 3).float(), rtol=1e-2, atol=0)


def test_inputs_are_untouched() -> None:
    inputs = make_inputs(dtype=torch.float32)
    before = Inputs(*(t.clone() for t in inputs))
    for mode in MODES:
        with use_ops(mode):
            ms_deform_attn(*inputs)
    assert all(torch.equal(a, b) for a, b in zip(inputs, before, strict=True))
