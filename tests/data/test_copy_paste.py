"""Pasted objects against pixels that are moved one by one; what is hidden, what comes along, what they supervise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_mosaic import VOCABULARY, Listed, piece, records

from partglee.data import Expression
from partglee.data.augmentation import JitterCrop
from partglee.data.copy_paste import CopyPasteMapper, cut_out, paste, share_in
from partglee.data.mapper import LevelSample, Mapper, Sample


def level(
    *boxes: tuple[int, int, int, int], labels: list[int] | None = None, size: tuple[int, int] = (20, 30)
) -> LevelSample:
    """Instances whose masks fill their boxes."""
    masks = np.zeros((len(boxes), *size), bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    named = np.array(labels or [0] * len(boxes), np.int64)
    return LevelSample(named, np.array(boxes, float).reshape(-1, 4), masks)


def sample(
    objects: LevelSample, parts: LevelSample, parent: list[int], *, grey: int = 0, file: str = "a.jpg"
) -> Sample:
    size = next(one.masks.shape[1:] for one in (objects, parts) if one.masks is not None)
    return Sample(torch.full((3, *size), grey, dtype=torch.uint8), objects, parts, np.array(parent, np.int64), file)


def points(mask: np.ndarray) -> set[tuple[int, int]]:
    return {(int(y), int(x)) for y, x in np.argwhere(mask)}


@pytest.mark.parametrize("place", [(0, 0), (3, 5), (-4, 9), (6, -5), (15, 25)])
def test_it_is_the_pixels_moved_one_by_one(place: tuple[int, int]) -> None:
    """Random masks, pieces over each edge too: every pixel of the image and of each mask, boxes around the masks."""
    below, donor = piece(0, height=18, width=28, count=3), piece(1, height=14, width=22, count=4)
    assert donor.objects.masks is not None and below.objects.masks is not None
    cut = cut_out(donor, np.array([1, 3]))
    seen = points(donor.objects.masks[1]) | points(donor.objects.masks[3])
    along = {
        row for row in range(4) if len(points(donor.objects.masks[row]) & seen) >= donor.objects.masks[row].sum() / 2
    }
    assert along >= {1, 3}
    for row in set(range(4)) - along:  # others that reach into them
        seen -= points(donor.objects.masks[row])
    top, left = min(y for y, _ in seen), min(x for _, x in seen)
    assert points(cut.seen) == {(y - top, x - left) for y, x in seen}
    whole = paste(below, cut, place)

    moved = {(y - top + place[0], x - left + place[1]): (y, x) for y, x in seen}
    for y in range(18):
        for x in range(28):
            source = donor.image[:, moved[y, x][0], moved[y, x][1]] if (y, x) in moved else below.image[:, y, x]
            assert whole.image[:, y, x].tolist() == source.tolist()

    expected: dict[str, list[tuple[int, set[tuple[int, int]]]]] = {"objects": [], "parts": []}
    for name in expected:
        own, taken = getattr(below, name), getattr(donor, name)
        for label, mask in zip(own.labels, own.masks, strict=True):
            rest = points(mask) - set(moved)
            if rest and len(rest) / mask.sum() > 0.1:
                expected[name].append((label, rest))
        for row, (label, mask) in enumerate(zip(taken.labels, taken.masks, strict=True)):
            if row in along if name == "objects" else len(points(mask) & seen) >= mask.sum() / 2:
                shown = {spot for spot, source in moved.items() if source in points(mask)}
                shown = {(y, x) for y, x in shown if 0 <= y < 18 and 0 <= x < 28}
                if shown:
                    expected[name].append((label, shown))
        got = getattr(whole, name)
        assert [(label, points(mask)) for label, mask in zip(got.labels, got.masks, strict=True)] == expected[name]
    for row, box in enumerate(whole.objects.boxes[-2:] if place == (0, 0) else []):
        spots = expected["objects"][len(expected["objects"]) - 2 + row][1]
        assert box.tolist() == [
            min(x for _, x in spots), min(y for y, _ in spots),
            max(x for _, x in spots) + 1, max(y for y, _ in spots) + 1,
        ]  # fmt: skip


def test_parts_follow_their_object_and_hidden_ones_go() -> None:
    below = sample(
        level((0, 0, 10, 10), (12, 0, 30, 20), labels=[0, 1]),
        level((0, 0, 4, 4), (13, 1, 20, 9), (22, 12, 30, 20), labels=[0, 1, 2]),
        [0, 1, 1],
    )
    donor = sample(level((2, 2, 14, 14), (20, 0, 30, 9)), level((3, 3, 6, 6), (20, 0, 25, 5)), [0, 1], grey=9)
    whole = paste(below, cut_out(donor, np.array([0])), (0, 0), boxes_from_masks=True)
    assert whole.objects.labels.tolist() == [1, 0]  # the first is hidden, 12 x 12 pixels of the other image lie over it
    assert whole.objects.boxes.tolist() == [[12, 0, 30, 20], [0, 0, 12, 12]]
    assert whole.parts.labels.tolist() == [1, 2, 0] and whole.parent.tolist() == [0, 0, 1]
    assert whole.parts.boxes.tolist() == [[13, 1, 20, 9], [22, 12, 30, 20], [1, 1, 4, 4]]
    assert (whole.image[:, :12, :12] == 9).all() and (whole.image[:, 12:] == 0).all()


def test_a_part_that_outlives_its_object_has_no_parent() -> None:
    below = sample(level((0, 0, 10, 10)), level((9, 0, 20, 10), labels=[2]), [0])
    whole = paste(below, cut_out(sample(level((0, 0, 10, 10)), level(), []), np.array([0])), (0, 0))
    assert whole.parts.labels.tolist() == [2] and whole.parent.tolist() == [-1]
    assert whole.parts.boxes.tolist() == [[10, 0, 20, 10]]


def test_what_is_seen_through_the_cut_out_comes_along() -> None:
    """A hat on a person is another object: pasted without its name it would count as none."""
    donor = sample(
        level((5, 0, 15, 20), (6, 0, 12, 4), (14, 5, 25, 12), labels=[0, 1, 1]),
        level((6, 0, 8, 4), (15, 6, 20, 11), (5, 15, 15, 20)),
        [1, 2, -1],
    )
    cut = cut_out(donor, np.array([0]))
    assert cut.sample.objects.labels.tolist() == [0, 1] and cut.sample.parent.tolist() == [1, -1]
    assert cut.sample.objects.boxes.tolist() == [[0, 0, 10, 20], [1, 0, 7, 4]]
    assert cut.sample.image.shape == (3, 20, 10) and (~cut.seen).sum() == 7  # of the third object


def test_boxes_alone() -> None:
    """Half of the piece is a box without a mask; below it boxes stay as annotated until they are hidden."""
    donor = sample(level((0, 0, 10, 10)), level(), [])
    bare = LevelSample(np.array([2, 1]), np.array([[1.0, 1.0, 5.0, 5.0], [8.0, 8.0, 20.0, 20.0]]), None)
    cut = cut_out(donor._replace(parts=bare, parent=np.array([0, -1])), np.array([0]))
    assert cut.sample.parts.labels.tolist() == [2] and cut.sample.parts.masks is None
    below = sample(level((10, 10, 30, 20)), level(), [])
    boxes = LevelSample(np.array([0, 1]), np.array([[4.0, 4.0, 20.0, 15.0], [6.0, 6.0, 14.0, 14.0]]), None)
    below = below._replace(parts=boxes, parent=np.array([0, 0]))
    whole = paste(below, cut, (5, 5))
    assert whole.parts.masks is None and whole.parent.tolist() == [0, 1]
    assert whole.parts.boxes.tolist() == [[4, 4, 20, 15], [6, 6, 10, 10]]  # its neighbour is hidden
    kept = paste(below, cut, (5, 5), boxes_from_masks=False)
    assert kept.objects.boxes.tolist() == [[10, 10, 30, 20], [5, 5, 15, 15]]
    with pytest.raises(ValueError, match=r"not all of the rows \[0\] have one"):
        cut_out(below._replace(objects=boxes), np.array([0]))


def test_share_in_a_region() -> None:
    region = np.zeros((20, 30), bool)
    region[:10, :15] = True
    assert share_in(level((0, 0, 10, 10), (10, 5, 20, 15), (20, 0, 30, 5)), region).tolist() == [1.0, 0.25, 0.0]
    bare = LevelSample(np.array([0, 0]), np.array([[-3.0, -3.0, 3.0, 3.0], [4.0, 4.0, 4.0, 9.0]]), None)
    assert share_in(bare, region).tolist() == [0.25, 0.0]


def test_names_count_as_looked_for_where_both_looked() -> None:
    """As in a mosaic of both: a hat on a pasted person is no mistake where nobody looked for hats on it."""
    below = sample(level((0, 0, 9, 9), (20, 0, 29, 9), labels=[0, 1]), level(), [])
    below = below._replace(objects=below.objects._replace(negative=frozenset({3, 4}), not_exhaustive=frozenset({1})))
    donor = sample(level((0, 0, 9, 9), (10, 0, 19, 9), (20, 0, 29, 9), labels=[2, 3, 0]), level(), [])
    looked = donor._replace(objects=donor.objects._replace(negative=frozenset({1})))
    whole = paste(below, cut_out(looked, np.array([0, 1])), (11, 0)).objects
    assert whole.labels.tolist() == [0, 1, 2, 3]
    assert whole.negative == frozenset() and whole.not_exhaustive == {1, 2}  # 0 and 3 are known in both, 4 is not
    hidden = paste(below, cut_out(looked, np.array([0])), (0, 0)).objects
    assert hidden.labels.tolist() == [1, 2] and hidden.negative == {0, 3} and hidden.not_exhaustive == {1, 2}
    partly = donor._replace(objects=donor.objects._replace(not_exhaustive=frozenset({3})))
    everything = paste(sample(level((0, 0, 9, 9)), level(), []), cut_out(partly, np.array([0])), (0, 15)).objects
    assert everything.negative is None and everything.not_exhaustive == {3}


def test_others_that_reach_into_a_cut_out_are_left_out_of_it() -> None:
    """Shown without their name they would count as none."""
    donor = sample(level((0, 0, 10, 10), (8, 0, 30, 10)), level((7, 0, 11, 10), (0, 0, 3, 3)), [1, 0])
    cut = cut_out(donor, np.array([0]))
    assert cut.seen.shape == (10, 8) and cut.seen.all() and cut.sample.objects.boxes.tolist() == [[0, 0, 8, 10]]
    assert cut.sample.parts.boxes.tolist() == [[0, 0, 3, 3]] and cut.sample.parent.tolist() == [0]
    inside = cut_out(sample(level((3, 3, 6, 6), (0, 0, 20, 10)), level(), []), np.array([0]))
    assert inside.seen.shape == (3, 3)  # nothing of it would be left: it stays


def test_what_falls_outside_is_no_target() -> None:
    """A piece that is larger than the image may have an object there alone: its box would reach into the image."""
    masks = np.zeros((2, 12, 12), bool)
    masks[0, :4], masks[1, 2:, 10:], masks[1, 11] = True, True, True
    boxes = np.array([[0.0, 0.0, 12.0, 4.0], [0.0, 2.0, 12.0, 12.0]])
    donor = Sample(
        torch.zeros(3, 12, 12, dtype=torch.uint8),
        LevelSample(np.array([0, 1]), boxes, masks),
        level(size=(12, 12)),
        np.zeros(0, np.int64),
        "",
    )
    small = sample(level(size=(8, 8)), level(size=(8, 8)), [])
    whole = paste(small, cut_out(donor, np.array([0, 1])), (0, 0))
    assert whole.objects.labels.tolist() == [0] and whole.objects.boxes.tolist() == [[0, 0, 8, 4]]


def mapper(listed: Listed, chance: float, **options: object) -> CopyPasteMapper:
    single = Mapper(vocabulary=VOCABULARY, augmentation=JitterCrop(size=(48, 64), scale=(0.5, 0.8), flip=0.5))
    small = Mapper(vocabulary=VOCABULARY, augmentation=JitterCrop(size=(16, 24), scale=(1.0, 1.0), flip=0.5))
    return CopyPasteMapper(listed, single=single, donors=[small], chance=chance, **options)  # type: ignore[arg-type]


def test_the_mapper_pastes_with_a_chance() -> None:
    listed = records()
    single = mapper(listed, 0.0)
    pasted = mapper(listed, 0.5)
    counts = []
    for seed in range(200):
        plain, one = (make(listed[4], np.random.default_rng(seed)) for make in (single, pasted))
        assert one.file == "4.png" and one.image.shape == plain.image.shape
        counts.append(len(one.objects.labels))
        if counts[-1] == 1:
            assert (one.image == plain.image).all() and (one.objects.boxes == plain.objects.boxes).all()
            continue
        x0, y0, x1, y1 = one.objects.boxes[1].astype(int)
        assert (x1 - x0) <= 24 and (y1 - y0) <= 16  # whole, and at the donors' size
        assert one.image[:, y0:y1, x0:x1].unique().numel() == 1
        assert one.parent.tolist()[-1] == 1
    assert set(counts) == {1, 2} and 70 < counts.count(2) < 130
    again = pasted(listed[4], np.random.default_rng(counts.index(2)))
    assert len(again.objects.labels) == 2


def test_what_is_never_pasted() -> None:
    listed = records()
    told = Listed(replace(one, expressions=(Expression("the car", objects=(0,)),)) for one in listed)
    always = mapper(listed, 1.0)
    assert len(always(told[0], np.random.default_rng(0)).objects.labels) == 1  # a sentence speaks of one image
    assert len(mapper(told, 1.0)(listed[0], np.random.default_rng(0)).objects.labels) == 1
    bare = Listed(replace(one, objects=tuple(replace(i, segmentation=None) for i in one.objects)) for one in listed)
    assert len(mapper(bare, 1.0)(listed[0], np.random.default_rng(0)).objects.labels) == 1
    nothing = Listed(replace(one, objects=(), parts=()) for one in listed)
    assert len(mapper(nothing, 1.0)(listed[0], np.random.default_rng(0)).objects.labels) == 1
    assert len(always(nothing[0], np.random.default_rng(0)).objects.labels) == 1  # over an empty image
    crowds = Listed(replace(one, objects=tuple(replace(i, crowd=True) for i in one.objects)) for one in listed)
    assert len(mapper(crowds, 1.0)(listed[0], np.random.default_rng(0)).objects.labels) == 1
    large = CopyPasteMapper(listed, single=always.single, donors=[always.single], chance=1.0)
    shown = [large(listed[0], np.random.default_rng(seed)) for seed in range(60)]  # 0.5 to 0.8 of the canvas
    counts = {len(one.objects.labels) for one in shown}
    assert counts == {1, 2}  # some pieces would hide more than half of the image
    assert len(mapper(listed, 1.0, max_instances=3)(listed[0], np.random.default_rng(0)).objects.labels) == 1
    with pytest.raises(ValueError, match="expected one mapper at least"):
        CopyPasteMapper(listed, single=always, donors=[], chance=1.0)
