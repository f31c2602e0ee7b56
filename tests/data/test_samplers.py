"""Orders of images: complete, repeatable, shared out among processes."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from partglee.data import ImageRecord
from partglee.data.samplers import _CHOICES, _WINDOW, Draw, ImageStream, MixtureSampler, repeat_factors
from partglee.structures import Vocabulary


def stream(num_images: int = 10, batch: int = 4, seed: int = 0, **fields: object) -> ImageStream:
    return ImageStream(num_images, seed=(seed, 0), batch=batch, **fields)  # type: ignore[arg-type]


def taken(source: ImageStream, count: int) -> list[int]:
    return [image for index in range(count) for image in source.take(index)]


@pytest.mark.parametrize(("num_images", "batch"), [(10, 4), (1, 3), (3, 10), (7, 7)])
def test_every_epoch_holds_every_image_once(num_images: int, batch: int) -> None:
    images = taken(stream(num_images, batch), num_images * 3)
    epochs = [images[i : i + num_images] for i in range(0, len(images), num_images)]
    assert len(epochs) == 3 * batch and all(sorted(epoch) == list(range(num_images)) for epoch in epochs)
    if num_images > 3:
        assert epochs[0] != epochs[1], "each epoch has an order of its own"


def test_batches_can_be_taken_in_any_order() -> None:
    repeats = np.linspace(1, 3, 10)
    groups = np.arange(10) % 2
    for fields in ({}, {"repeats": repeats}, {"groups": groups}, {"repeats": repeats, "groups": groups}):
        forward = [stream(**fields).take(index) for index in range(50)]
        one = stream(**fields)
        assert [one.take(index) for index in reversed(range(50))] == forward[::-1]
        assert stream(seed=1, **fields).take(49) != forward[49]


def test_repeat_factors_by_the_formula() -> None:
    """Name 0 in all 16 images, name 1 in one; part 2 in four."""

    class Few:
        vocabulary = Vocabulary(["a", "b"])

        def __len__(self) -> int:
            return 16

        def __getitem__(self, index: int) -> ImageRecord:
            raise AssertionError("the factors need no records")

        def size(self, index: int) -> tuple[int, int]:
            return 1, 1

        def labels(self, index: int) -> tuple[frozenset[int], frozenset[int]]:
            return frozenset({0, 1} if index == 3 else {0}), frozenset({2} if index < 4 else ())

    factors = repeat_factors(Few(), 0.5)
    assert factors[3] == pytest.approx(np.sqrt(0.5 * 16)) and factors[:3] == pytest.approx([np.sqrt(2)] * 3)
    assert (factors[4:] == 1).all()
    assert (repeat_factors(Few(), 1e-9) == 1).all()


def test_rare_images_really_come_more_often() -> None:
    repeats = np.array([1.0, 1.5, 2.0, 3.25])
    images = taken(stream(4, 5, repeats=repeats), 2000)
    share = np.bincount(images) / len(images)
    assert share == pytest.approx(repeats / repeats.sum(), abs=0.005)
    epoch = taken(stream(4, 1, repeats=np.array([1.0, 2.0, 2.0, 3.0])), 8)
    assert sorted(epoch) == [0, 1, 1, 2, 2, 3, 3, 3]


def test_batches_of_one_aspect_ratio() -> None:
    groups = np.array([0] * 30 + [1] * 13)
    source = stream(43, 4, groups=groups)
    batches = [source.take(index) for index in range(_WINDOW * 30)]
    mixed = sum(len({int(groups[image]) for image in batch}) > 1 for batch in batches)
    assert mixed <= 30, "at most one batch of a window"
    plain = stream(43, 4)
    assert np.bincount([i for b in batches for i in b]).tolist() == np.bincount(taken(plain, len(batches))).tolist()
    first = [groups[batch[0]] for batch in batches[:_WINDOW]]
    assert first != sorted(first), "tall and wide batches are in random order"


# -- mixtures --------------------------------------------------------------------------------------------------------


def mixture(start: int = 0, rank: int = 0, world_size: int = 1, **fields: object) -> MixtureSampler:
    streams = [ImageStream(n, seed=(0, i), batch=2) for i, n in enumerate((1000, 500, 7))]
    options = {"ratios": (3, 1, 0), "seed": 0, "start": start, "rank": rank, "world_size": world_size, **fields}
    return MixtureSampler(streams, **options)  # type: ignore[arg-type]


def test_ratios() -> None:
    draws = list(islice(mixture(), 2000))
    counts = np.bincount([draw.dataset for draw in draws], minlength=3)
    assert counts[2] == 0 and counts[0] / counts[1] == pytest.approx(3, rel=0.15)
    assert [draw.step for draw in draws] == list(range(2000))


@pytest.mark.parametrize("same_dataset", [True, False])
@pytest.mark.parametrize("start", [0, 1, 77, _CHOICES - 1, _CHOICES, _CHOICES + 5])
def test_a_later_start_draws_the_rest(start: int, same_dataset: bool) -> None:
    options = {"rank": 1, "world_size": 3, "same_dataset": same_dataset}
    whole = list(islice(mixture(**options), start, start + 20))
    assert list(islice(mixture(start, **options), 20)) == whole


def ranks(count: int, **fields: object) -> list[list[Draw]]:
    return [list(islice(mixture(rank=rank, world_size=3, **fields), count)) for rank in range(3)]


def test_processes_share_out_one_data_set() -> None:
    for step in zip(*ranks(100), strict=True):
        assert len({draw.dataset for draw in step}) == 1
        assert len({image for draw in step for image in draw.images}) == 6


def test_processes_together_show_every_image_once_an_epoch() -> None:
    draws = [draw for one in ranks(400) for draw in one]
    steps = sorted((draw.step, rank, draw) for rank, one in enumerate(ranks(400)) for draw in one)
    first = [image for _, _, draw in steps if draw.dataset == 0 for image in draw.images][:1000]
    assert sorted(first) == list(range(1000)) and len(draws) == 1200


def test_processes_of_their_own() -> None:
    drawn = ranks(100, same_dataset=False)
    assert any(len({draw.dataset for draw in step}) > 1 for step in zip(*drawn, strict=True))
    for dataset in (0, 1):
        images = [i for one in drawn for draw in one[:60] if draw.dataset == dataset for i in draw.images]
        assert len(set(images)) == len(images), "still no image twice in an epoch"
