"""Overlapping rows against a slow oracle, and what it means for objects and parts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from partglee.modeling.overlap import best_of_overlapping


def oracle(
    boxes: Tensor, group: Tensor, masks: Tensor | None, overlap: float | None, inside: float | None
) -> list[int]:
    """Row by row, from the definitions."""
    kept: list[int] = []
    for row in range(len(boxes)):
        stays = True
        for other in kept:
            if group[row] != group[other]:
                continue
            low, high = torch.maximum(boxes[row][:2], boxes[other][:2]), torch.minimum(boxes[row][2:], boxes[other][2:])
            shared = float((high - low).clamp(min=0).prod())
            areas = [float((boxes[i][2:] - boxes[i][:2]).prod()) for i in (row, other)]
            if masks is not None and masks[row].any() and masks[other].any():
                shared = float((masks[row] & masks[other]).sum())
                areas = [float(masks[i].sum()) for i in (row, other)]
            if overlap is not None and shared > overlap * (sum(areas) - shared):
                stays = False
            if inside is not None and shared > inside * min(areas):
                stays = False
        if stays:
            kept.append(row)
    return kept


def sample(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes of a few places, two groups, masks that fill most of their box; two have none."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.randint(0, 3, (40, 2), generator=generator) * 8 + torch.randint(0, 3, (40, 2), generator=generator)
    size = torch.randint(4, 12, (40, 2), generator=generator)
    boxes = torch.cat((corner, corner + size), 1).float()
    masks = torch.zeros(40, 32, 32, dtype=torch.bool)
    for row, (left, top, right, bottom) in enumerate(boxes.long().tolist()):
        masks[row, top:bottom, left:right] = torch.rand(bottom - top, right - left, generator=generator) < 0.8
    masks[[3, 17]] = False
    return boxes, torch.randint(0, 2, (40,), generator=generator), masks.flatten(1)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("overlap", "inside"), [(0.3, None), (None, 0.6), (0.5, 0.8), (None, None)])
@pytest.mark.parametrize("with_masks", [True, False])
def test_against_the_definitions(seed: int, overlap: float | None, inside: float | None, with_masks: bool) -> None:
    boxes, group, masks = sample(seed)
    expected = oracle(boxes, group, masks if with_masks else None, overlap, inside)
    found = best_of_overlapping(
        boxes, group, lambda rows: masks[rows] if with_masks else None, overlap=overlap, inside=inside
    )
    assert found.tolist() == expected
    assert (len(expected) < 40) == (overlap is not None or inside is not None)


def test_nothing_and_one() -> None:
    for count in (0, 1):
        none = torch.zeros(count, dtype=torch.long)
        assert best_of_overlapping(torch.zeros(count, 4), none, lambda rows: None, overlap=0.5).tolist() == [0] * count


def test_masks_of_many_small_groups_are_made_a_few_at_a_time() -> None:
    """More rows than are compared together, in groups of all sizes, one larger than that."""
    generator = torch.Generator().manual_seed(3)
    group = torch.randint(0, 12, (150,), generator=generator)
    group[torch.randperm(150, generator=generator)[:50]] = 20
    masks = torch.rand(150, 30, generator=generator) < torch.rand(150, 1, generator=generator)
    corner = torch.rand(150, 2, generator=generator)
    boxes = torch.cat((corner, corner + 1), 1)
    asked: list[int] = []

    def made(rows: Tensor) -> Tensor:
        asked.append(len(rows))
        return masks[rows]

    kept = best_of_overlapping(boxes, group, made, overlap=0.5)
    assert kept.tolist() == oracle(boxes, group, masks, 0.5, None)
    assert 3 <= len(asked) <= 8 and max(asked) == 50 and sum(asked) == 150
