"""Which images of which data set each batch shows.

Everything follows from seed and step: a run that is resumed at a step draws what the uninterrupted one would have.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from partglee.data.records import Records

_CHOICES = 4096  # data sets that are drawn at a time
_WINDOW = 16  # batches among which images are grouped by their aspect ratio


class Draw(NamedTuple):
    """One batch of one process."""

    step: int
    dataset: int
    images: tuple[int, ...]


class ImageStream:
    """The images of one data set in an endless random order: each epoch holds every image, rare ones more often.

    Args:
        num_images: N.
        seed: of the order.
        repeats: (N,) how often an image comes in an epoch on average, at least 1; None = once each. Fractions are
            rounded up or down at random in every epoch.
        groups: (N,) images of different numbers share a batch only at the edges of a window of batches; None = any do.
        batch: images of a batch.
    """

    def __init__(
        self,
        num_images: int,
        *,
        seed: Sequence[int],
        batch: int,
        repeats: NDArray[np.float64] | None = None,
        groups: NDArray[np.int64] | None = None,
    ) -> None:
        self.num_images = num_images
        self.seed = list(seed)
        self.batch = batch
        self.repeats = repeats
        self.groups = groups
        self._starts = [0]  # of the epochs, as far as they are known
        self._order = lru_cache(maxsize=3)(self._make_order)
        self._window = lru_cache(maxsize=2)(self._make_window)

    def take(self, index: int) -> tuple[int, ...]:
        """The images of batch `index`, 0, 1, 2, ..."""
        if self.groups is None:
            return tuple(self._span(index * self.batch, self.batch).tolist())
        window, place = divmod(index, _WINDOW)
        return tuple(self._window(window)[place].tolist())

    def _make_window(self, window: int) -> NDArray[np.int64]:
        images = self._span(window * _WINDOW * self.batch, _WINDOW * self.batch)
        assert self.groups is not None
        batches = images[np.argsort(self.groups[images], kind="stable")].reshape(_WINDOW, self.batch)
        return np.random.default_rng([*self.seed, 2, window]).permutation(batches)

    def _span(self, start: int, count: int) -> NDArray[np.int64]:
        pieces: list[NDArray[np.int64]] = []
        epoch = self._epoch_of(start)
        while count > 0:
            piece = self._order(epoch)[start - self._starts[epoch] :][:count]
            pieces.append(piece)
            start, count = start + len(piece), count - len(piece)
            epoch = self._epoch_of(start)
        return np.concatenate(pieces)

    def _epoch_of(self, position: int) -> int:
        while self._starts[-1] <= position:
            length = self.num_images if self.repeats is None else int(self._counts(len(self._starts) - 1).sum())
            self._starts.append(self._starts[-1] + length)
        return int(np.searchsorted(self._starts, position, side="right")) - 1

    def _counts(self, epoch: int) -> NDArray[np.int64]:
        assert self.repeats is not None
        whole = np.floor(self.repeats)
        chance = np.random.default_rng([*self.seed, 0, epoch]).random(self.num_images)
        return (whole + (chance < self.repeats - whole)).astype(np.int64)

    def _make_order(self, epoch: int) -> NDArray[np.int64]:
        images = np.arange(self.num_images)
        if self.repeats is not None:
            images = np.repeat(images, self._counts(epoch))
        return np.random.default_rng([*self.seed, 1, epoch]).permutation(images)


class MixtureSampler:
    """Draws for one process, without end.

    Args:
        streams: one for each data set.
        ratios: how often each data set is drawn, relative to the others.
        seed: of the choice of data sets.
        start: step to begin at.
        rank, world_size: this process, and how many there are. They get different images of a data set.
        same_dataset: all processes draw from one data set in a step.
    """

    def __init__(
        self,
        streams: Sequence[ImageStream],
        *,
        ratios: Sequence[float],
        seed: int,
        start: int = 0,
        rank: int = 0,
        world_size: int = 1,
        same_dataset: bool = True,
    ) -> None:
        self.streams = tuple(streams)
        self.chances = np.array(ratios, np.float64) / sum(ratios)
        self.seed = seed
        self.start = start
        self.rank = rank
        self.world_size = world_size
        self.chooser = 0 if same_dataset else 1 + rank

    def __iter__(self) -> Iterator[Draw]:
        block, place = divmod(self.start, _CHOICES)
        taken = np.zeros(len(self.streams), np.int64)  # batches that this process drew of each data set before
        for earlier in range(block):
            taken += np.bincount(self._choices(earlier), minlength=len(taken))
        taken += np.bincount(self._choices(block)[:place], minlength=len(taken))
        step = self.start
        while True:
            for dataset in self._choices(block)[place:].tolist():
                index = int(taken[dataset]) * self.world_size + self.rank
                yield Draw(step, dataset, self.streams[dataset].take(index))
                taken[dataset] += 1
                step += 1
            block, place = block + 1, 0

    def _choices(self, block: int) -> NDArray[np.int64]:
        rng = np.random.default_rng([self.seed, self.chooser, block])
        return rng.choice(len(self.chances), size=_CHOICES, p=self.chances)


def repeat_factors(records: Records, threshold: float) -> NDArray[np.float64]:
    """(N,) how often each image comes in an epoch so that rare names are seen more often (LVIS, arXiv 1908.03195).

    A name in a share f of the images wants max(1, sqrt(threshold / f)); an image gets what its rarest name wants.
    """
    labels_of = [records.labels(index) for index in range(len(records))]
    factors = np.ones(len(labels_of))
    for level in (0, 1):
        labels = [sorted(entry[level]) for entry in labels_of]
        flat = np.array([label for entry in labels for label in entry], np.int64)
        if not len(flat):
            continue
        wanted = np.maximum(1.0, np.sqrt(threshold * len(labels_of) / np.maximum(np.bincount(flat), 1)))
        owner = np.repeat(np.arange(len(labels)), [len(entry) for entry in labels])
        np.maximum.at(factors, owner, wanted[flat])
    return factors
