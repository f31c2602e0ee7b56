"""Masks to instances: exact on small grids."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as rle

from partglee.data.prepare.regions import (
    draw_polygons,
    drop_specks,
    region_from_mask,
    split_components,
    split_pair,
)  # fmt: skip


def grid(*rows: str) -> NDArray[np.bool_]:
    return np.array([[cell == "#" for cell in row] for row in rows])


def test_region_says_box_area_and_mask() -> None:
    mask = grid("......", ".##...", ".#..#.", "......")
    region = region_from_mask("car:wheel", mask)
    assert region.box == (1.0, 1.0, 4.0, 2.0) and region.area == 4.0
    assert isinstance(region.segmentation["counts"], str) and region.segmentation["size"] == [4, 6]
    assert (rle.decode(region.segmentation).astype(bool) == mask).all()


def test_an_empty_mask_is_refused() -> None:
    with pytest.raises(ValueError, match="'car:wheel' is empty"):
        region_from_mask("car:wheel", np.zeros((3, 3), bool))


def test_polygons_of_two_points_are_left_out() -> None:
    drawn = draw_polygons([[0, 0, 4, 0, 4, 4, 0, 4], [5, 5, 6, 6]], 8, 8)
    assert drawn.sum() == 16 and drawn[:4, :4].all()
    assert not draw_polygons([[5, 5, 6, 6]], 8, 8).any()


def test_components_are_instances_largest_first() -> None:
    mask = grid("##...#", "##....", "....##", "...#..", "#.....")  # corners connect: (2, 4) and (3, 3)
    pieces = split_components(mask, min_area=2)
    assert [int(piece.sum()) for piece in pieces] == [4, 3]
    assert pieces[1][3, 3] and pieces[1][2, 5]
    assert (drop_specks(mask, 2) == pieces[0] | pieces[1]).all()


def test_a_pair_is_two_instances_and_fragments_join_the_nearer() -> None:
    mask = grid(
        "##......##",
        "##......##",
        "..........",
        "#.......#.",
        "..........",
    )
    pieces = split_pair(mask, min_area=1)
    assert [int(piece.sum()) for piece in pieces] == [5, 5]
    left = next(piece for piece in pieces if piece[0, 0])
    assert left[3, 0] and not left[:, 5:].any()


@pytest.mark.parametrize("min_area, area", [(1, 9), (2, 8)])
def test_a_pair_that_touches_is_one_instance(min_area: int, area: int) -> None:
    mask = grid("####.....#", "####......")  # the single pixel is under a quarter of the rest: a fragment or a speck
    pieces = split_pair(mask, min_area=min_area)
    assert len(pieces) == 1 and pieces[0].sum() == area


def test_nothing_is_left_of_specks() -> None:
    assert split_pair(grid("#..#"), min_area=2) == [] and split_components(grid("#..#"), min_area=2) == []
