"""Objects and parts of SA-1B against a slow reading of the rule, pair by pair."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from partglee.data.prepare.regions import region_from_mask
from partglee.data.prepare.sa1b import hierarchy, shrink


def slow(masks: NDArray[np.bool_], areas: list[float]) -> tuple[list[bool], list[int]]:
    """The rule as it is written down."""
    rank = sorted(range(len(masks)), key=lambda row: (-areas[row], row))
    is_part, parent = [False] * len(masks), [-1] * len(masks)
    for place, row in enumerate(rank):
        for other in rank[:place]:
            inter = int((masks[row] & masks[other]).sum())
            union = int((masks[row] | masks[other]).sum())
            sizes = int(masks[row].sum()), int(masks[other].sum())
            if inter and max(inter / union, inter / sizes[0], inter / sizes[1]) >= 0.5:
                is_part[row] = True
        for other in reversed(rank[:place]):  # the smallest first
            inter = int((masks[row] & masks[other]).sum())
            if is_part[row] and inter and inter / masks[row].sum() >= 0.5:
                parent[row] = other
                break
    return is_part, parent


@pytest.mark.parametrize("seed", range(8))
def test_random_rectangles(seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks = np.zeros((30, 16, 20), bool)
    for mask in masks:
        y, x = rng.integers(0, 12, 2)
        mask[y : y + rng.integers(0, 9), x : x + rng.integers(0, 9)] = True  # some are empty
    areas = [float(64 * mask.sum() + rng.integers(-90, 90)) for mask in masks]  # sizes need not agree in order
    areas[3] = areas[7]
    found = hierarchy(masks, areas)
    is_part, parent = slow(masks, areas)
    assert found.is_part.tolist() == is_part and found.parent.tolist() == parent
    assert any(is_part) and not all(is_part) and max(parent) >= 0


def test_a_chain_and_a_neighbour() -> None:
    masks = np.zeros((4, 8, 8), bool)
    masks[2, :, :6] = True  # the object
    masks[0, :4, :6] = True  # a part of it
    masks[3, :2, :4] = True  # a part of the part
    masks[1, :, 6:] = True  # another object
    found = hierarchy(masks, masks.sum((1, 2)) * 64.0)
    assert found.is_part.tolist() == [True, False, False, True] and found.parent.tolist() == [2, -1, -1, 0]


def test_exactly_half_counts() -> None:
    masks = np.zeros((3, 4, 8), bool)
    masks[0, :, :4] = True
    masks[1, 0, 2:6] = True  # half of it inside
    masks[2, 1, 3:7] = True  # a quarter
    found = hierarchy(masks, [16, 4, 3])
    assert found.is_part.tolist() == [False, True, False] and found.parent.tolist() == [-1, 0, -1]


def test_none_and_one() -> None:
    assert hierarchy(np.zeros((0, 2, 2), bool), []).is_part.shape == (0,)
    one = hierarchy(np.ones((1, 2, 2), bool), [4])
    assert one.is_part.tolist() == [False] and one.parent.tolist() == [-1]


@pytest.mark.parametrize("size", [(24, 40), (27, 45), (9, 8)])
def test_every_eighth_pixel(size: tuple[int, int]) -> None:
    mask = np.random.default_rng(0).random(size) > 0.5
    small = shrink(region_from_mask("x", mask).segmentation)
    assert small.shape == (size[0] // 8, size[1] // 8)
    for y in range(small.shape[0]):
        for x in range(small.shape[1]):
            assert small[y, x] == mask[8 * y, 8 * x]
