"""Mosaics: four or more images of one data set on one canvas (Bochkovskiy et al., YOLOv4, arXiv 2004.10934).

Objects come with their parts, smaller than alone and beside what they are seldom beside. All its images have one
vocabulary and one meaning of what is unlabelled, so that what a mosaic supervises is what they supervise together.

H x W the canvas, G rows and columns of cells, N instances of one level in all images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from partglee.data.mapper import LevelSample, Sample
from partglee.data.records import ImageRecord, Records
from partglee.data.transforms import Size

SampleMapper = Callable[[ImageRecord, np.random.Generator], Sample]


class MosaicMapper:
    """Samples of single images, and with a chance mosaics of an image and G^2 - 1 others.

    Args:
        records: that the others are drawn from.
        single: a record to a sample that fills the canvas.
        cells: by G, a record to a sample of at most (H // G, W // G); each G has the same chance.
        chance: of a mosaic, 0..1. A record with referring expressions is always shown alone: they speak of one image.
        canvas: (H, W).
        fill: (R, G, B) 0..255 where a cell is not filled; what padding becomes is the mean colour.
    """

    def __init__(
        self,
        records: Records,
        *,
        single: SampleMapper,
        cells: Mapping[int, SampleMapper],
        chance: float,
        canvas: Size,
        fill: Sequence[float] = (0.0, 0.0, 0.0),
    ) -> None:
        self.records = records
        self.single = single
        if not cells or min(cells) < 2:
            raise ValueError(f"a mosaic has at least 2 rows and columns, got {sorted(cells)}")
        self.cells = dict(cells)
        self.chance = chance
        self.canvas = canvas
        self.fill = tuple(round(value) for value in fill)

    def __call__(self, record: ImageRecord, rng: np.random.Generator) -> Sample:
        """A sample, the same one for the same state of `rng`.

        Raises:
            FileNotFoundError, ValueError: for an image that cannot be read, be it one of the others.
        """
        if record.expressions or rng.random() >= self.chance:
            return self.single(record, rng)
        grids = sorted(self.cells)
        grid = grids[int(rng.integers(len(grids)))] if len(grids) > 1 else grids[0]
        others = [self.records[int(row)] for row in rng.integers(len(self.records), size=grid**2 - 1)]
        pieces = [self.cells[grid](one, rng) for one in (record, *others)]
        order = rng.permutation(len(pieces))
        return mosaic([pieces[place] for place in order], self.canvas, self.fill, file=pieces[0].file)


def mosaic(pieces: Sequence[Sample], canvas: Size, fill: Sequence[int], *, file: str) -> Sample:
    """G^2 samples of at most (H // G, W // G) to one, row by row from the top left.

    Args:
        pieces: without expressions.
        file: that the mosaic is called by.

    Raises:
        ValueError: for a piece that is larger than its cell, or a number of pieces that is no square.
    """
    grid = math.isqrt(len(pieces))
    if grid**2 != len(pieces):
        raise ValueError(f"a mosaic has as many rows as columns, got {len(pieces)} pieces")
    cell = canvas[0] // grid, canvas[1] // grid
    image = torch.tensor(fill, dtype=torch.uint8)[:, None, None].repeat(1, *canvas)
    corners = [(row * cell[0], column * cell[1]) for row in range(grid) for column in range(grid)]
    for piece, (top, left) in zip(pieces, corners, strict=True):
        height, width = piece.image.shape[1:]
        if height > cell[0] or width > cell[1]:
            raise ValueError(f"a piece of a mosaic of {canvas} must be at most {cell}, got {(height, width)}")
        image[:, top : top + height, left : left + width] = piece.image
    first = np.cumsum([0, *(len(piece.objects.labels) for piece in pieces[:-1])])
    parents = [np.where(piece.parent >= 0, piece.parent + row, -1) for piece, row in zip(pieces, first, strict=True)]
    return Sample(
        image,
        _together([piece.objects for piece in pieces], corners, canvas),
        _together([piece.parts for piece in pieces], corners, canvas),
        np.concatenate(parents).astype(np.int64),
        file,
    )


def _together(levels: Sequence[LevelSample], corners: Sequence[tuple[int, int]], canvas: Size) -> LevelSample:
    """One level of them all."""
    boxes = [level.boxes + np.array([left, top] * 2) for level, (top, left) in zip(levels, corners, strict=True)]
    masks: NDArray[np.bool_] | None = None
    labels = np.concatenate([level.labels for level in levels]).astype(np.int64)
    if any(level.masks is not None for level in levels):
        masks = np.zeros((len(labels), *canvas), bool)
        row = 0
        for level, (top, left) in zip(levels, corners, strict=True):
            if level.masks is not None:
                count, height, width = level.masks.shape
                masks[row : row + count, top : top + height, left : left + width] = level.masks
            row += len(level.labels)
    negative, not_exhaustive = looked_for(levels, set(labels.tolist()))
    return LevelSample(labels, np.concatenate(boxes), masks, negative, not_exhaustive)


def looked_for(levels: Sequence[LevelSample], shown: set[int]) -> tuple[frozenset[int] | None, frozenset[int]]:
    """(negative, not exhaustive) of the whole: a name is annotated in full where it is so in each of them."""
    if all(level.negative is None for level in levels):
        return None, frozenset[int]().union(*(level.not_exhaustive for level in levels))
    each = [
        (set(level.labels.tolist()) | level.negative) - level.not_exhaustive
        for level in levels
        if level.negative is not None
    ]
    exhaustive = set[int].intersection(*each)
    return frozenset(exhaustive - shown), frozenset(shown - exhaustive)
