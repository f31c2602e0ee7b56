"""Every way of computing multi-scale deformable attention against loops, and its gradients against differences."""

from __future__ import annotations

import pytest
import torch
from msda_inputs import (
    INSTRUCTION_SETS,
    MODES,
    Inputs,
    loop_oracle,
    make_inputs,
    needs_native,
    relative_error,
)

from partglee.ops import ms_deform_attn, native, use_ops

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 5e-3, torch.float16: 2e-3}


def gradients(inputs: Inputs, grad: torch.Tensor, mode: str) -> tuple[torch.Tensor, ...]:
    leaves = [t.detach().clone().requires_grad_() for t in (inputs.value, inputs.locations, inputs.weights)]
    with use_ops(mode):
        out = ms_deform_attn(leaves[0], inputs.shapes, inputs.starts, leaves[1], leaves[2])
    return torch.autograd.grad(out, leaves, grad)


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("mode", MODES)
def test_matches_the_loops(mode: str, dtype: torch.dtype) -> None:
    inputs = make_inputs(dtype=dtype)
    with use_ops(mode):
        out = ms_deform_attn(*inputs)
    assert out.dtype == dtype and out.shape == (2, 7, 12)
    assert relative_error(out, loop_oracle(inputs)) < TOLERANCE[dtype]


@pytest.mark.parametrize("channels", [1, 3, 8, 16, 32, 64, 20])
@pytest.mark.parametrize("mode", MODES)
def test_any_number_of_channels(mode: str, channels: int) -> None:
    inputs = make_inputs(channels=channels, heads=2, dtype=torch.float32)
    with use_ops(mode):
        out = ms_deform_attn(*inputs)
    assert relative_error(out, loop_oracle(inputs)) < 1e-5


@pytest.mark.parametrize("mode", MODES)
def test_gradcheck(mode: str) -> None:
    inputs = make_inputs(images=1, queries=3, heads=2, channels=3, shapes=[(3, 4), (1, 1)])
    leaves = [t.requires_grad_() for t in (inputs.value, inputs.locations, inputs.weights)]

    def call(value: torch.Tensor, locations: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return ms_deform_attn(value, inputs.shapes, inputs.starts, locations, weights)

    with use_ops(mode):
        assert torch.autograd.gradcheck(call, leaves, eps=1e-7, atol=1e-6)


# Few queries: rows are read in place. Many: each head is copied together first. As many as rows: taken in strips.
@needs_native
@pytest.mark.parametrize("queries", [5, 60, 43])
@pytest.mark.parametrize("channels", [8, 16, 32, 64, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", INSTRUCTION_SETS)
def test_native_matches_float64(name: str, dtype: torch.dtype, channels: int, queries: int) -> None:
    before = native.cpu_instruction_set()
    if not native.use_cpu_instruction_set(name):
        pytest.skip(f"this processor or library has no {name}")
    try:
        inputs = make_inputs(queries=queries, channels=channels, points=4, dtype=dtype, spread=1.2)
        exact = Inputs(inputs.value.double(), *inputs[1:3], inputs.locations.double(), inputs.weights.double())
        grad = torch.randn(2, queries, 3 * channels, generator=torch.Generator().manual_seed(1)).to(dtype)
        with use_ops("native"):
            assert relative_error(ms_deform_attn(*inputs), loop_oracle_fast(exact)) < TOLERANCE[dtype]
        found = gradients(inputs, grad, "native")
        expected = gradients(exact, grad.double(), "reference")
        limit = 1e-4 if dtype == torch.float32 else TOLERANCE[dtype]
        assert [f.dtype for f in found] == [dtype, torch.float32, torch.float32]
        for f, e in zip(found, expected, strict=True):
            assert relative_error(f, e) < limit
    finally:
        assert native.use_cpu_instruction_set(str(before))


# Half gradients of 4 MB and more are written past the caches, in whole lines: 64 bytes per row do, 32 do not.
@needs_native
@pytest.mark.parametrize("channels", [32, 16])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", INSTRUCTION_SETS)
def test_large_half_gradient_of_few_queries(name: str, dtype: torch.dtype, channels: int) -> None:
    before = native.cpu_instruction_set()
    if not native.use_cpu_instruction_set(name):
        pytest.skip(f"this processor or library has no {name}")
    try:
        inputs = make_inputs(1, 4, 2, channels, points=4, shapes=[(260, 270), (9, 7)], dtype=dtype)
        grad = torch.randn(1, 4, 2 * channels, generator=torch.Generator().manual_seed(1)).to(dtype)
        assert inputs.value.nbytes >= 4 << 20
        found = gradients(inputs, grad, "native")
        exact = Inputs(inputs.value.double(), *inputs[1:3], inputs.locations.double(), inputs.weights.double())
        expected = gradients(exact, grad.double(), "reference")
        for f, e in zip(found, expected, strict=True):
            assert relative_error(f, e) < TOLERANCE[dtype]
        assert not found[0][expected[0] == 0].any()  # nothing of an earlier tensor shows through
    finally:
        assert native.use_cpu_instruction_set(str(before))


def loop_oracle_fast(exact: Inputs) -> torch.Tensor:
    """The oracle in float64, which the loops above vouch for."""
    with use_ops("reference"):
        return ms_deform_attn(*exact)


@needs_native
@pytest.mark.parametrize("queries", [5, 600])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bitwise_equal_for_any_number_of_threads(queries: int, dtype: torch.dtype) -> None:
    inputs = make_inputs(images=1, queries=queries, heads=2, channels=16, points=4, dtype=dtype)
    grad = torch.randn(1, queries, 32, generator=torch.Generator().manual_seed(1)).to(dtype)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (
            1,
            2,
            3,
            7,
        ):  # beyond the number of heads, the backward pass also splits by level
            torch.set_num_threads(threads)
            with use_ops("native"):
                results.append((ms_deform_attn(*inputs), *gradients(inputs, grad, "native")))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_list_of_shapes_gives_the_same_as_tensors() -> None:
    inputs = make_inputs(dtype=torch.float32)
    shapes = [(h, w) for h, w in inputs.shapes.tolist()]
    for mode in MODES:
        with use_ops(mode):
            expected = ms_deform_attn(*inputs)
            for args in ((shapes, None), (inputs.shapes, None), (shapes, inputs.starts)):
                assert torch.equal(ms_deform_attn(inputs.value, *args, *inputs[3:]), expected)


@pytest.mark.parametrize("mode", MODES)
def test_level_order_does_not_matter(mode: str) -> None:
    inputs = make_inputs(dtype=torch.float32)
    order = torch.tensor([2, 0, 1])
    with use_ops(mode):
        turned = ms_deform_attn(
            inputs.value, inputs.shapes[order], inputs.starts[order],
            inputs.locations[:, :, :, order], inputs.weights[:, :, :, order],
        )  # fmt: skip
        torch.testing.assert_close(turned, ms_deform_attn(*inputs))


@pytest.mark.parametrize("mode", MODES)
def test_non_contiguous_arguments_and_expanded_gradient(mode: str) -> None:
    inputs = make_inputs()
    strided = [
        t.transpose(0, 1).contiguous().transpose(0, 1).requires_grad_()
        for t in (inputs.value, inputs.locations, inputs.weights)
    ]
    with use_ops(mode):
        out = ms_deform_attn(strided[0], inputs.shapes, inputs.starts, strided[1], strided[2])
        torch.testing.assert_close(out, ms_deform_attn(*inputs))
        out.sum().backward()  # sends one number, expanded
    expected = gradients(inputs, torch.ones_like(out), "reference")
    for leaf, grad in zip(strided, expected, strict=True):
        torch.testing.assert_close(leaf.grad, grad)


def test_rounded_locations_would_be_wrong() -> None:
    """Why locations stay float32 with half-precision values: on a map of 200 pixels bfloat16 places are pixels off."""
    inputs = make_inputs(shapes=[(200, 200)], dtype=torch.float32, spread=0.9)
    exact = ms_deform_attn(*inputs)
    with_half_values = ms_deform_attn(inputs.value.bfloat16(), *inputs[1:])
    with_half_locations = ms_deform_attn(*inputs[:3], inputs.locations.bfloat16().float(), inputs.weights)
    assert relative_error(with_half_values, exact) < 5e-3
    assert relative_error(with_half_locations, exact) > 5e-2
