"""Places and weights of samples: the compiled operator and plain PyTorch against loops over single numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from partglee.ops import native, use_ops
from partglee.ops.dispatch import native_sampling_points
from partglee.ops.sampling_points import sampling_points

ONE = torch.zeros(1)
compiled = pytest.mark.skipif(not native_sampling_points(ONE, ONE, ONE), reason="no compiled operator")
# N, Q, M, L, P, references per query, numbers of each
CASES = [
    (1, 5, 2, 3, 4, 3, 2),
    (2, 7, 3, 2, 5, 1, 4),
    (2, 3, 8, 4, 4, 4, 4),
    (1, 33, 1, 1, 1, 1, 2),
    (3, 1, 5, 3, 4, 1, 2),
    (1, 0, 8, 3, 4, 1, 4),
    (0, 4, 8, 3, 4, 1, 2),
]


@pytest.fixture(params=["reference", "avx512", "avx2", "baseline"])
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    before = native.cpu_instruction_set()
    if request.param == "reference":
        with use_ops("reference"):
            yield "reference"
        return
    if before is None or not native.use_cpu_instruction_set(request.param):
        pytest.skip(f"no {request.param} here")
    with use_ops("native"):
        yield request.param
    native.use_cpu_instruction_set(before)


def inputs(case: tuple[int, ...], seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    n, q, m, levels, p, shared, numbers = case
    g = torch.Generator().manual_seed(seed)
    return (
        torch.randn(n, q, m, levels, p, 2, generator=g) * 3,
        torch.randn(n, q, m, levels * p, generator=g) * 4,
        torch.rand(n, q, shared, numbers, generator=g),
        torch.randint(3, 70, (levels, 2), generator=g),
    )


def by_loops(offsets: Tensor, logits: Tensor, reference: Tensor, shapes: Tensor) -> tuple[list[float], list[float]]:
    n, q, m, levels, p, _ = offsets.shape
    places, weights = [], []
    for i, j, k in ((i, j, k) for i in range(n) for j in range(q) for k in range(m)):
        row = [math.exp(x - max(logits[i, j, k].tolist())) for x in logits[i, j, k].tolist()]
        weights += [x / sum(row) for x in row]
        for level in range(levels):
            at = reference[i, j, min(level, reference.shape[2] - 1)].tolist()
            height, width = shapes[level].tolist()
            unit = (1 / width, 1 / height) if len(at) == 2 else (at[2] / 2 / p, at[3] / 2 / p)
            for point in range(p):
                x, y = offsets[i, j, k, level, point].tolist()
                places += [at[0] + x * unit[0], at[1] + y * unit[1]]
    return places, weights


@pytest.mark.parametrize("case", CASES)
def test_each_number(case: tuple[int, ...], way: str) -> None:
    given = inputs(case)
    locations, weights = sampling_points(*given)
    assert locations.shape == given[0].shape and weights.shape == given[0].shape[:-1]
    places, shares = by_loops(*given)
    torch.testing.assert_close(locations.flatten(), torch.tensor(places), atol=2e-6, rtol=2e-6)
    torch.testing.assert_close(weights.flatten(), torch.tensor(shares), atol=1e-6, rtol=2e-6)


@compiled
@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_float64(case: tuple[int, ...], way: str) -> None:
    *numbers, shapes = inputs(case)
    grads = []
    for dtype in (torch.float64, torch.float32):
        leaves = [x.to(dtype).requires_grad_() for x in numbers]
        locations, weights = sampling_points(*leaves, shapes)
        g = torch.Generator().manual_seed(1)
        loss = sum((x * torch.randn(x.shape, generator=g).to(dtype)).sum() for x in (locations, weights))
        grads.append(torch.autograd.grad(loss, leaves))
    for exact, found in zip(*grads, strict=True):
        torch.testing.assert_close(found.double(), exact, atol=1e-4, rtol=1e-4)


def test_gradcheck_of_plain_pytorch() -> None:
    *numbers, shapes = inputs((1, 2, 2, 2, 2, 1, 4))
    leaves = [x.double().requires_grad_() for x in numbers]
    assert torch.autograd.gradcheck(lambda *x: sampling_points(*x, shapes), leaves)


@compiled
def test_sums_and_expanded_inputs_have_gradients_too(way: str) -> None:
    offsets, logits, reference, shapes = inputs((2, 3, 2, 3, 4, 1, 2))
    one = reference[:1].requires_grad_()
    locations, weights = sampling_points(offsets.requires_grad_(), logits.requires_grad_(), one, shapes)
    (locations.sum() + weights.sum()).backward()
    assert one.grad is not None and logits.grad is not None
    torch.testing.assert_close(one.grad, torch.full_like(one, 2 * 2 * 3 * 4))
    torch.testing.assert_close(logits.grad, torch.zeros_like(logits), atol=1e-5, rtol=0)


def test_extreme_logits(way: str) -> None:
    offsets, logits, reference, shapes = inputs((1, 6, 1, 1, 3, 1, 2))
    logits[0, :, 0] = torch.tensor([
        [1e30, 1e30, -1e30],
        [-math.inf, 0, 0],
        [math.nan, 0, 1],
        [-math.inf, -math.inf, -math.inf],
        [0, -86, -200],
        [math.inf, 0, 0],
    ])  # fmt: skip
    weights = sampling_points(offsets, logits, reference, shapes)[1]
    torch.testing.assert_close(weights.flatten(2), logits.softmax(-1)[:, :, 0], equal_nan=True, atol=1e-6, rtol=1e-5)


@compiled
def test_which_inputs_the_operator_takes() -> None:
    single, half, double = torch.zeros(1), torch.zeros(1, dtype=torch.bfloat16), torch.zeros(1, dtype=torch.float64)
    assert native_sampling_points(single, single, single)
    assert not native_sampling_points(half, half, half)
    assert not native_sampling_points(double, double, double)
    with use_ops("reference"):
        assert not native_sampling_points(single, single, single)


@compiled
def test_no_silent_second_derivative() -> None:
    *numbers, shapes = inputs((1, 2, 2, 2, 2, 1, 4))
    leaves = [x.requires_grad_() for x in numbers]
    locations, weights = sampling_points(*leaves, shapes)
    first = torch.autograd.grad(locations.square().sum() + weights.square().sum(), leaves, create_graph=True)
    with pytest.raises(RuntimeError, match="double backward"):
        sum(x.square().sum() for x in first).backward()


@pytest.mark.parametrize("numbers", [1, 3, 5])
def test_a_reference_is_a_centre_or_a_box(numbers: int, way: str) -> None:
    offsets, logits, _, shapes = inputs((1, 2, 2, 2, 2, 1, 4))
    with pytest.raises(ValueError, match="cxcywh"):
        sampling_points(offsets, logits, torch.zeros(1, 2, 1, numbers), shapes)


@compiled
@pytest.mark.parametrize("broken", ["queries", "levels", "logits", "shapes"])
def test_the_operator_reads_nothing_that_is_not_there(broken: str) -> None:
    offsets, logits, reference, shapes = inputs((1, 4, 2, 3, 2, 3, 2))
    if broken == "queries":
        reference = reference[:, :2]
    elif broken == "levels":
        reference = reference[:, :, :2]
    elif broken == "logits":
        logits = logits[..., :-1]
    else:
        shapes = shapes[:2]
    with pytest.raises(RuntimeError):
        sampling_points(offsets, logits, reference, shapes)


@compiled
def test_shapes_without_numbers() -> None:
    offsets, logits, reference, shapes = inputs((2, 3, 2, 3, 4, 1, 2))
    with FakeTensorMode() as mode:
        fakes = [mode.from_tensor(x) for x in (offsets, logits, reference, shapes)]
        locations, weights = sampling_points(*fakes)
    assert locations.shape == offsets.shape and weights.shape == offsets.shape[:-1]
