"""Mosaics against one that is pasted pixel by pixel; what they supervise together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_mapper import instance

from partglee.data import Expression, ImageRecord
from partglee.data.augmentation import JitterCrop
from partglee.data.collate import collate
from partglee.data.mapper import LevelSample, Mapper, Sample
from partglee.data.mosaic import MosaicMapper, mosaic
from partglee.data.spec import DatasetSpec
from partglee.structures import Vocabulary

VOCABULARY = Vocabulary({"car": ["left mirror", "right mirror", "wheel"], "dog": []})
CANVAS = (24, 32)


def piece(seed: int, *, height: int = 12, width: int = 16, count: int = 2, masks: bool = True) -> Sample:
    """A random sample with `count` objects and twice as many parts."""
    rng = np.random.default_rng(seed)

    def level(n: int, names: int) -> LevelSample:
        drawn = rng.random((n, height, width)) < 0.3
        drawn[:, 2, 3] = True
        low = rng.integers(0, 4, (n, 2)).astype(float)
        boxes = np.concatenate([low, low + rng.integers(2, 8, (n, 2))], 1)
        return LevelSample(rng.integers(0, names, n), boxes, drawn if masks and n else None)

    parents = rng.integers(-1, count, 2 * count) if count else np.zeros(0, np.int64)
    image = torch.from_numpy(rng.integers(1, 255, (3, height, width)).astype(np.uint8))
    return Sample(image, level(count, 2), level(2 * count, 3), parents, f"{seed}.jpg")


def test_it_is_the_four_pasted() -> None:
    pieces = [piece(0), piece(1, height=7), piece(2, count=0), piece(3, width=11, count=3)]
    whole = mosaic(pieces, CANVAS, (7, 8, 9), file="a.jpg")
    assert whole.image.dtype == torch.uint8 and whole.file == "a.jpg" and whole.expression is None
    row = part_row = 0
    filled = np.zeros(CANVAS, bool)
    for number, one in enumerate(pieces):
        top, left = 12 * (number // 2), 16 * (number % 2)
        height, width = one.image.shape[1:]
        for y in range(height):
            for x in range(width):
                assert whole.image[:, top + y, left + x].tolist() == one.image[:, y, x].tolist()
                filled[top + y, left + x] = True
        for own, placed, start in ((one.objects, whole.objects, row), (one.parts, whole.parts, part_row)):
            for k in range(len(own.labels)):
                assert placed.labels[start + k] == own.labels[k]
                x0, y0, x1, y1 = own.boxes[k]
                assert placed.boxes[start + k].tolist() == [x0 + left, y0 + top, x1 + left, y1 + top]
                assert own.masks is not None and placed.masks is not None
                expected = {(int(y) + top, int(x) + left) for y, x in np.argwhere(own.masks[k])}
                assert {(int(y), int(x)) for y, x in np.argwhere(placed.masks[start + k])} == expected
        for k, parent in enumerate(one.parent):
            assert whole.parent[part_row + k] == (-1 if parent < 0 else parent + row)
        row, part_row = row + len(one.objects.labels), part_row + len(one.parts.labels)
    assert (row, part_row) == (len(whole.objects.labels), len(whole.parts.labels))
    assert (torch.tensor([7, 8, 9]) == whole.image[:, ~torch.from_numpy(filled)].T).all()


def test_instances_without_mask_have_an_empty_one() -> None:
    pieces = [piece(0), piece(1, masks=False), piece(2), piece(3)]
    whole = mosaic(pieces, CANVAS, (0, 0, 0), file="")
    assert whole.objects.masks is not None and len(whole.objects.boxes) == 8
    assert whole.objects.masks.any((1, 2)).tolist() == [True, True, False, False, True, True, True, True]
    empty = mosaic([piece(k, count=0) for k in range(4)], CANVAS, (0, 0, 0), file="")
    assert empty.objects.masks is None and empty.parent.shape == (0,)


def test_a_piece_that_is_too_large() -> None:
    with pytest.raises(ValueError, match=r"at most \(12, 16\), got \(13, 16\)"):
        mosaic([piece(0, height=13), piece(1), piece(2), piece(3)], CANVAS, (0, 0, 0), file="")


def test_names_count_as_looked_for_where_all_four_looked() -> None:
    """Names 0..5; what `collate` holds against the mosaic is what it would hold against each of the four."""
    rng = np.random.default_rng(0)
    vocabulary = Vocabulary({f"name{k}": [] for k in range(6)})
    spec = DatasetSpec(name="x", annotations="", images="", reader=None, supervises_parts=False)  # type: ignore[arg-type]
    options = {"spec": spec, "vocabulary": vocabulary, "rng": rng, "divisibility": 1}
    for _ in range(50):
        pieces = []
        for seed in range(4):
            labels = rng.integers(0, 6, 2)
            negative = frozenset(int(k) for k in rng.integers(0, 6, 4)) - set(labels.tolist())
            partly = frozenset(int(k) for k in labels[rng.random(2) < 0.3])
            one = piece(seed)
            objects = one.objects._replace(labels=labels, negative=negative, not_exhaustive=partly)
            parts = LevelSample(np.zeros(0, np.int64), np.zeros((0, 4)), None)
            pieces.append(one._replace(objects=objects, parts=parts, parent=np.zeros(0, np.int64)))
        each = collate(pieces, **options).supervision.objects.negatives  # type: ignore[arg-type]
        whole = collate([mosaic(pieces, CANVAS, (0, 0, 0), file="")], **options).supervision.objects.negatives  # type: ignore[arg-type]
        assert each is not None and whole is not None
        assert whole[0].tolist() == each.all(0).tolist()


class Listed(list[ImageRecord]):
    vocabulary = VOCABULARY


def records(count: int = 5) -> Listed:
    made = Listed()
    for number in range(count):
        pixels = np.full((60, 100, 3), 20 * (number + 1), np.uint8)
        objects = (instance((0, 0, 100, 60)),)
        parts = (instance((10, 10, 60, 50), label=2, parent=0),)
        made.append(ImageRecord(f"{number}.png", 60, 100, number, objects, parts, pixels=pixels))  # type: ignore[arg-type]
    return made


def mapper(chance: float, listed: Listed, grids: tuple[int, ...] = (2,)) -> MosaicMapper:
    def at(size: tuple[int, int]) -> Mapper:
        return Mapper(vocabulary=VOCABULARY, augmentation=JitterCrop(size=size, scale=(1.0, 1.5), flip=0.5))

    cells = {grid: at((48 // grid, 64 // grid)) for grid in grids}
    return MosaicMapper(listed, single=at((48, 64)), cells=cells, chance=chance, canvas=(48, 64), fill=(127.4, 0, 0))


def test_the_mapper_draws_them() -> None:
    listed = records()
    sample = mapper(1.0, listed)(listed[0], np.random.default_rng(0))
    assert sample.image.shape == (3, 48, 64) and sample.file == "0.png"
    assert sample.objects.labels.tolist() == [0] * 4 and sample.parent.tolist() == [0, 1, 2, 3]
    for number, (x0, y0, x1, y1) in enumerate(sample.objects.boxes):
        colours = sample.image[:, int(y0) : int(y1), int(x0) : int(x1)].unique()
        assert len(colours) == 1 and colours.item() in (20, 40, 60, 80, 100), number
    again = mapper(1.0, listed)(listed[0], np.random.default_rng(0))
    assert (again.image == sample.image).all() and (again.objects.boxes == sample.objects.boxes).all()
    alone = [mapper(0.5, listed)(listed[0], np.random.default_rng(seed)) for seed in range(200)]
    assert 70 < sum(len(one.objects.labels) == 1 for one in alone) < 130


def test_grids_are_drawn_with_equal_chances() -> None:
    listed = records()
    drawn = [mapper(1.0, listed, (2, 3, 4))(listed[0], np.random.default_rng(seed)) for seed in range(300)]
    counts = np.bincount([len(one.objects.labels) for one in drawn])
    assert set(np.flatnonzero(counts)) == {4, 9, 16} and counts[[4, 9, 16]].min() > 70
    nine = next(one for one in drawn if len(one.objects.labels) == 9)
    assert nine.image.shape == (3, 48, 64)
    places = sorted((int(y0) // 16, int(x0) // 21) for x0, y0, _, _ in nine.objects.boxes)
    assert places == [(row, column) for row in range(3) for column in range(3)]
    assert nine.parent.tolist() == list(range(9))


def test_bad_grids() -> None:
    with pytest.raises(ValueError, match=r"at least 2 rows and columns, got \[1, 2\]"):
        mapper(1.0, records(), (1, 2))
    with pytest.raises(ValueError, match="as many rows as columns, got 3 pieces"):
        mosaic([piece(0), piece(1), piece(2)], CANVAS, (0, 0, 0), file="")


def test_an_expression_stays_alone() -> None:
    listed = records()
    told = replace(listed[0], expressions=(Expression("the car", objects=(0,)),))
    sample = mapper(1.0, listed)(told, np.random.default_rng(0))
    assert sample.expression == "the car" and len(sample.objects.labels) == 1
