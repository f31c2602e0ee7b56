"""Inputs and the slow oracle for the tests of multi-scale deformable attention."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from partglee.ops import native

needs_native = pytest.mark.skipif(not native.CPU.loaded, reason="the compiled operators are not built")

# Every way of computing that this machine has, as names for `use_ops`.
MODES = ["reference", "embedding_bag", *(["native"] if native.CPU.loaded else [])]
INSTRUCTION_SETS = ["baseline", "avx2", "avx512"]
SHAPES = [(6, 5), (3, 4), (1, 1)]


class Inputs(NamedTuple):
    """Arguments of ms_deform_attn."""

    value: Tensor
    shapes: Tensor
    starts: Tensor
    locations: Tensor
    weights: Tensor


def make_inputs(
    images: int = 2,
    queries: int = 7,
    heads: int = 3,
    channels: int = 4,
    points: int = 2,
    shapes: list[tuple[int, int]] = SHAPES,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    spread: float = 1.5,
) -> Inputs:
    """Random arguments with points inside, on the border and outside, each 1e-3 pixels off the lattice.

    At a whole pixel the derivative in the location jumps, and two right answers differ.
    """
    generator = torch.Generator().manual_seed(seed)
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    rows, levels = sum(h * w for h, w in shapes), len(shapes)
    table = torch.tensor(shapes, dtype=torch.int64).reshape(-1, 2)
    areas = table.prod(1)
    value = torch.randn(images, rows, heads, channels, generator=generator, dtype=torch.float64)
    size = (images, queries, heads, levels, points)
    locations = 0.5 + spread * (torch.rand(*size, 2, generator=generator, dtype=torch.float64) - 0.5)
    extent = table.flip(-1)[:, None].double()  # (L, 1, 2) w, h
    pixels = locations * extent - 0.5
    offset = pixels - pixels.floor()
    pixels = pixels.floor() + offset.clamp(1e-3, 1 - 1e-3)
    locations = (pixels + 0.5) / extent.clamp(min=1)
    weights = torch.randn(*size[:3], levels * points, generator=generator, dtype=torch.float64)
    weights = weights.softmax(-1).reshape(size)
    return Inputs(value.to(dtype), table, areas.cumsum(0) - areas, locations.to(exact), weights.to(exact))


def loop_oracle(inputs: Inputs) -> Tensor:
    """The definition in Python loops over numbers, one corner at a time."""
    value, locations, weights = (t.double() for t in (inputs.value, inputs.locations, inputs.weights))
    images, _, heads, channels = value.shape
    _, queries, _, levels, points, _ = locations.shape
    out = torch.zeros(images, queries, heads, channels, dtype=torch.float64)
    for n in range(images):
        for q in range(queries):
            for m in range(heads):
                for level in range(levels):
                    h, w = inputs.shapes[level].tolist()
                    start = int(inputs.starts[level])
                    for p in range(points):
                        x, y = locations[n, q, m, level, p].tolist()
                        if not (math.isfinite(x) and math.isfinite(y)):
                            continue
                        x, y = x * w - 0.5, y * h - 0.5
                        for row in (math.floor(y), math.floor(y) + 1):
                            for column in (math.floor(x), math.floor(x) + 1):
                                if not (0 <= row < h and 0 <= column < w):
                                    continue
                                share = (1 - abs(y - row)) * (1 - abs(x - column))
                                sample = value[n, start + row * w + column, m]
                                out[n, q, m] += weights[n, q, m, level, p] * share * sample
    return out.reshape(images, queries, heads * channels)


def relative_error(found: Tensor, expected: Tensor) -> float:
    found, expected = found.detach(), expected.detach()
    difference = (found.double() - expected.double()).norm()
    return float(difference / expected.double().norm().clamp(min=1e-30))
