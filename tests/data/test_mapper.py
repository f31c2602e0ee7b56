"""Records to samples: targets, parents, limits, flips, expressions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from coco_files import read, square, two_images, write
from PIL import Image

from partglee.data import Expression, ImageRecord, Instance
from partglee.data.annotations.coco_json import CocoRecords
from partglee.data.augmentation import JitterCrop, ShortSide
from partglee.data.mapper import Mapper
from partglee.data.transforms import Geometry
from partglee.structures import Vocabulary

VOCABULARY = Vocabulary({"car": ["left mirror", "right mirror", "wheel"], "dog": []})
SAME_SIZE = ShortSide(short_sides=(60,), max_side=100, flip=0.0)


class Fixed:
    """An augmentation that is told what to draw."""

    def __init__(self, *geometries: Geometry) -> None:
        self.geometries = list(geometries)
        self.asked: list[bool] = []

    def draw(self, source: tuple[int, int], rng: np.random.Generator, *, whole: bool) -> Geometry:
        self.asked.append(whole)
        return self.geometries.pop(0) if len(self.geometries) > 1 else self.geometries[0]


def crop(top: int, left: int, height: int, width: int, *, flip: bool = False) -> Fixed:
    """Of the car image, at its own scale."""
    return Fixed(Geometry((60, 100), (60, 100), top, left, (height, width), flip))


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def instance(box: tuple[float, float, float, float], label: int = 0, **fields: object) -> Instance:
    return Instance(label=label, box=box, segmentation=tuple(map(tuple, square(*box))), **fields)  # type: ignore[arg-type]


def record(
    folder: Path, objects: Sequence[Instance] = (), parts: Sequence[Instance] = (), **fields: object
) -> ImageRecord:
    Image.new("RGB", (100, 60), (1, 2, 3)).save(folder / "image.png")
    return ImageRecord(
        file=folder / "image.png",
        height=60,
        width=100,
        image_id=1,
        objects=tuple(objects),
        parts=tuple(parts),
        **fields,
    )  # type: ignore[arg-type]


@pytest.fixture
def example(tmp_path: Path) -> CocoRecords:
    write(tmp_path, two_images())
    return read(tmp_path, two_images())


def test_the_example_as_it_is(example: CocoRecords) -> None:
    sample = Mapper(vocabulary=example.vocabulary, augmentation=SAME_SIZE)(example[0], rng())
    assert sample.image.shape == (3, 60, 100) and (sample.image[0] == np.arange(100)).all()
    assert sample.objects.labels.tolist() == [0] and sample.objects.boxes.tolist() == [[20, 10, 80, 50]]
    assert sample.parts.labels.tolist() == [2, 0] and sample.parent.tolist() == [0, 0]
    assert sample.parts.boxes.tolist() == [[30, 40, 40, 50], [20, 20, 24, 26]]
    assert sample.parts.masks is not None and sample.parts.masks.sum((1, 2)).tolist() == [100, 24]


def test_the_example_in_the_mirror(example: CocoRecords) -> None:
    """x becomes 100 - x, and the left mirror is now a right mirror."""
    flipped = replace(SAME_SIZE, flip=1.0)
    sample = Mapper(vocabulary=example.vocabulary, augmentation=flipped)(example[0], rng())
    assert (sample.image[0] == np.arange(99, -1, -1)).all()
    assert sample.objects.boxes.tolist() == [[20, 10, 80, 50]]
    assert sample.parts.boxes.tolist() == [[60, 40, 70, 50], [76, 20, 80, 26]]
    assert [VOCABULARY.part_names[label] for label in sample.parts.labels] == ["wheel", "right mirror"]
    assert sample.parts.masks is not None and sample.parts.masks[0, 40:50, 60:70].all()
    kept = Mapper(vocabulary=example.vocabulary, augmentation=flipped, left_right=False)(example[0], rng())
    assert kept.parts.labels.tolist() == [2, 0]


@pytest.mark.parametrize("seed", range(10))
def test_random_rectangles_stay_rectangles(tmp_path: Path, seed: int) -> None:
    """Boxes around the visible masks are the visible boxes up to a pixel; what vanished is gone on both ways."""
    draw = np.random.default_rng(seed)
    corners = np.sort(draw.uniform(0, 1, (9, 2, 2)) * [100, 60], axis=1).reshape(9, 4)
    objects = [instance(tuple(box), label=i % 2) for i, box in enumerate(corners.tolist())]
    geometry = JitterCrop(size=(40, 50), scale=(0.5, 2.0), flip=0.5).draw((60, 100), draw, whole=False)
    mapper = Mapper(vocabulary=VOCABULARY, augmentation=Fixed(geometry), min_area=1.0)
    sample = mapper(record(tmp_path, objects), rng())
    boxes = geometry.boxes(corners)
    sides = boxes[:, 2:] - boxes[:, :2]
    clear = [i for i in range(9) if sides[i].min() > 1.5]
    shown = [i for i in range(9) if sides[i].min() > 0]
    assert len(clear) <= len(sample.objects.labels) <= len(shown)
    places = iter(sample.objects.boxes)
    for i in clear:
        assert any(np.abs(box - boxes[i]).max() <= 1.01 for box in places), "in file order"


def test_boxes_follow_what_is_visible(tmp_path: Path) -> None:
    triangle = Instance(label=0, box=(0, 0, 100, 60), segmentation=((0.0, 0.0, 100.0, 0.0, 0.0, 60.0),))
    one = record(tmp_path, [triangle])
    cut = crop(30, 0, 30, 100)
    visible = Mapper(vocabulary=VOCABULARY, augmentation=cut)(one, rng()).objects
    assert visible.boxes[0] == pytest.approx([0, 0, 50, 30], abs=1)
    annotated = Mapper(vocabulary=VOCABULARY, augmentation=cut, boxes_from_masks=False)(one, rng()).objects
    assert annotated.boxes.tolist() == [[0, 0, 100, 30]]


def test_parents_of_survivors(tmp_path: Path) -> None:
    """Object 0 is cropped away: its part stays without a parent. Object 1 becomes row 0."""
    objects = [instance((0, 0, 20, 60)), instance((30, 0, 90, 60), label=1), instance((95, 0, 100, 60))]
    parts = [
        instance((10, 0, 60, 10), parent=0),
        instance((40, 20, 50, 30), parent=1),
        instance((0, 0, 5, 5), parent=0),
        instance((50, 20, 60, 30), parent=-1),
        instance((88, 0, 98, 9), parent=2),
    ]
    sample = Mapper(vocabulary=VOCABULARY, augmentation=crop(0, 25, 60, 75))(record(tmp_path, objects, parts), rng())
    assert sample.objects.labels.tolist() == [1, 0]
    assert sample.parts.boxes.tolist() == [[0, 0, 35, 10], [15, 20, 25, 30], [25, 20, 35, 30], [63, 0, 73, 9]]
    assert sample.parent.tolist() == [-1, 0, -1, 1]


def test_small_remainders_are_dropped(tmp_path: Path) -> None:
    one = record(tmp_path, [instance((0, 0, 10, 10)), instance((0, 0, 20, 20))])
    for min_area, count in ((1.0, 2), (25.0, 2), (26.0, 1), (1000.0, 0)):
        mapper = Mapper(vocabulary=VOCABULARY, augmentation=crop(5, 5, 50, 50), min_area=min_area)
        assert len(mapper(one, rng()).objects.labels) == count


def test_crowds_are_no_targets_and_no_parents(tmp_path: Path) -> None:
    objects = [instance((0, 0, 90, 60), crowd=True), instance((0, 0, 9, 9))]
    parts = [instance((0, 0, 5, 5), parent=0), instance((0, 0, 5, 5), parent=1), instance((0, 0, 5, 5), crowd=True)]
    sample = Mapper(vocabulary=VOCABULARY, augmentation=SAME_SIZE)(record(tmp_path, objects, parts), rng())
    assert sample.objects.boxes.tolist() == [[0, 0, 9, 9]] and sample.parent.tolist() == [-1, 0]


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 4, 5, 6, 7])
def test_the_largest_objects_keep_their_parts(tmp_path: Path, limit: int) -> None:
    objects = [instance((0, 0, 10, 10)), instance((0, 0, 90, 60), label=1), instance((0, 0, 50, 50))]
    parts = [
        instance((0, 0, 8, 8), label=0, parent=0),
        instance((0, 0, 5, 5), label=1, parent=1),
        instance((0, 0, 6, 6), label=2, parent=1),
        instance((0, 0, 30, 30), label=0, parent=-1),
    ]
    mapper = Mapper(vocabulary=VOCABULARY, augmentation=SAME_SIZE, max_instances=limit)
    sample = mapper(record(tmp_path, objects, parts), rng())
    order = ["object 1", "part 2", "part 1", "object 2", "part 3", "object 0", "part 0"]  # by size, parts with objects
    shown = [f"object {[100, 5400, 2500].index(int(area))}" for area in _areas(sample.objects.boxes)]
    shown += [f"part {[64, 25, 36, 900].index(int(area))}" for area in _areas(sample.parts.boxes)]
    assert sorted(shown) == sorted(order[:limit])


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def test_an_image_without_annotations(tmp_path: Path) -> None:
    sample = Mapper(vocabulary=VOCABULARY, augmentation=SAME_SIZE)(record(tmp_path), rng())
    for level in (sample.objects, sample.parts):
        assert level.labels.shape == (0,) and level.boxes.shape == (0, 4) and level.masks is None
    assert sample.parent.shape == (0,)


def test_one_box_without_mask_has_an_empty_one(tmp_path: Path) -> None:
    """The others keep theirs."""
    boxed = Instance(label=1, box=(5, 5, 20, 20))
    sample = Mapper(vocabulary=VOCABULARY, augmentation=SAME_SIZE)(
        record(tmp_path, [instance((0, 0, 9, 9)), boxed], [instance((0, 0, 5, 5))]), rng()
    )
    assert sample.objects.boxes.tolist() == [[0, 0, 9, 9], [5, 5, 20, 20]]
    assert sample.objects.masks is not None and sample.objects.masks.sum((1, 2)).tolist() == [81, 0]
    assert sample.parts.masks is not None
    alone = Mapper(vocabulary=VOCABULARY, augmentation=SAME_SIZE)(record(tmp_path, [boxed], []), rng())
    assert alone.objects.masks is None


def test_federated_labels_change_sides(tmp_path: Path) -> None:
    one = record(tmp_path, negative_parts=frozenset({0, 2}), not_exhaustive_parts=frozenset({1}))
    sample = Mapper(vocabulary=VOCABULARY, augmentation=replace(SAME_SIZE, flip=1.0))(one, rng())
    assert sample.parts.negative == {1, 2} and sample.parts.not_exhaustive == {0}
    assert sample.objects.negative is None


# -- expressions -----------------------------------------------------------------------------------------------------


def test_expressions_name_one_object(tmp_path: Path) -> None:
    objects = [instance((0, 0, 9, 9)), instance((50, 0, 90, 60), label=1), instance((1, 1, 5, 5), crowd=True)]
    one = record(
        tmp_path, objects, [instance((0, 0, 5, 5), parent=0)],
        expressions=(
            Expression("both", (0, 1)), Expression("the left car", (0,)), Expression("b", (1,)), Expression("a", (0,)),
            Expression("crowd", (2,)), Expression("nothing"), Expression("a wheel", (), (0,)),
        ),
    )  # fmt: skip
    mapper = Mapper(vocabulary=VOCABULARY, augmentation=SAME_SIZE)
    seen = set()
    for seed in range(40):
        sample = mapper(one, np.random.default_rng(seed))
        assert len(sample.parts.labels) == 0
        seen.add((sample.expression, *sample.objects.boxes[0].tolist()))
    assert seen == {("the left car", 0, 0, 9, 9), ("a", 0, 0, 9, 9), ("b", 50, 0, 90, 60)}
    mirrored = Mapper(vocabulary=VOCABULARY, augmentation=replace(SAME_SIZE, flip=1.0))
    assert {mirrored(one, np.random.default_rng(seed)).expression for seed in range(40)} == {"the right car", "a", "b"}


def test_ordinals_are_never_cropped(tmp_path: Path) -> None:
    one = record(tmp_path, [instance((0, 0, 100, 60))], expressions=(Expression("Second car from the left", (0,)),))
    mapper = Mapper(vocabulary=VOCABULARY, augmentation=JitterCrop(size=(40, 50), scale=(0.5, 2.0), flip=0.0))
    sizes = [mapper(one, np.random.default_rng(seed)).image.shape for seed in range(30)]
    assert all(abs(width - height * 100 / 60) <= 1 for _, height, width in sizes)
    other = replace(one, expressions=(Expression("seconds of a car", (0,)),))
    shapes = {tuple(mapper(other, np.random.default_rng(seed)).image.shape) for seed in range(30)}
    assert (3, 40, 50) in shapes


def test_the_object_of_a_sentence_stays_in_the_image(tmp_path: Path) -> None:
    one = record(tmp_path, [instance((0, 0, 9, 9))], expressions=(Expression("it", (0,)),))
    away = Geometry((60, 100), (60, 100), 30, 50, (30, 50), False)
    augmentation = Fixed(away, away._replace(top=0, left=0, size=(60, 100)))
    sample = Mapper(vocabulary=VOCABULARY, augmentation=augmentation)(one, rng())
    assert augmentation.asked == [False, True] and len(sample.objects.labels) == 1


# -- files -----------------------------------------------------------------------------------------------------------


def test_the_same_state_gives_the_same_sample(tmp_path: Path) -> None:
    one = record(tmp_path, [instance((0, 0, 50, 50))])
    mapper = Mapper(
        vocabulary=VOCABULARY, augmentation=JitterCrop(size=(40, 40), scale=(0.5, 2.0), flip=0.5), color=0.5
    )
    a, b, c = (mapper(one, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert (a.image == b.image).all() and a.objects.boxes.tolist() == b.objects.boxes.tolist()
    assert a.image.shape != c.image.shape or not (a.image == c.image).all()


def test_a_size_that_the_file_does_not_say(tmp_path: Path) -> None:
    one = replace(record(tmp_path, [instance((0, 0, 50, 50))]), height=0, width=0)
    assert Mapper(vocabulary=VOCABULARY, augmentation=SAME_SIZE)(one, rng()).image.shape == (3, 60, 100)


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_boxes_over_the_edge_of_an_image_without_a_size(tmp_path: Path, flip: float) -> None:
    boxes = (90.0, 10.0, 130.0, 40.0), (120.0, 10.0, 130.0, 40.0)
    unsized = replace(record(tmp_path, [Instance(label=0, box=box) for box in boxes]), height=0, width=0)
    augmentation = ShortSide(short_sides=(60,), max_side=100, flip=flip)
    sample = Mapper(vocabulary=VOCABULARY, augmentation=augmentation)(unsized, rng())
    assert sample.objects.boxes.tolist() == [[0, 10, 10, 40] if flip else [90, 10, 100, 40]]


def test_an_image_of_another_size_is_refused(tmp_path: Path) -> None:
    one = replace(record(tmp_path), height=61)
    with pytest.raises(ValueError, match=r"image.png.*\(60, 100\).*\(61, 100\)"):
        Mapper(vocabulary=VOCABULARY, augmentation=SAME_SIZE)(one, rng())


@pytest.mark.parametrize(("height", "width"), [(400, 600), (401, 603), (397, 599)])
@pytest.mark.parametrize("turned", [False, True])
def test_large_jpegs_are_decoded_smaller(tmp_path: Path, height: int, width: int, turned: bool) -> None:
    """The result is close to that of decoding at full size, also when the file is stored on its side."""
    rows, columns = np.mgrid[:height, :width]
    pixels = np.stack([columns * 255 // width, rows * 255 // height, 0 * rows], axis=2).astype(np.uint8)
    stored = Image.fromarray(np.rot90(pixels).copy() if turned else pixels)
    exif = Image.Exif()
    exif[0x0112] = 6 if turned else 1  # turn by 90 degrees clockwise to view
    stored.save(tmp_path / "a.jpg", quality=95, exif=exif)
    stored.save(tmp_path / "a.png", exif=exif)
    augmentation = ShortSide(short_sides=(90,), max_side=200, flip=0.0)
    results = []
    for name in ("a.jpg", "a.png"):
        one = ImageRecord(file=tmp_path / name, height=height, width=width, image_id=1)
        results.append(Mapper(vocabulary=VOCABULARY, augmentation=augmentation)(one, rng()).image.float())
    assert results[0].shape == results[1].shape and (results[0] - results[1]).abs().max() < 8
