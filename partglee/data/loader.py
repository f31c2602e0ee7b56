"""Draws to batches, in worker processes; images that cannot be read are replaced and named."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from partglee.basics.signals import closed_at_exit, pass_over_first
from partglee.data.images import read_image
from partglee.data.records import ImageRecord, Records
from partglee.data.samplers import Draw
from partglee.data.spec import DatasetSpec
from partglee.data.transforms import Size
from partglee.structures import Vocabulary

Prepared = TypeVar("Prepared")

_ATTEMPTS = 20  # images that are tried for one place in a batch


Mapping = Callable[[ImageRecord, np.random.Generator], Any]
"""A record to a sample, the same one for the same state of the generator; ValueError or OSError for what cannot be."""


class Collate(Protocol):
    """Samples of one data set to a batch: a NamedTuple with a field `unreadable`, for whoever counts them."""

    def __call__(
        self,
        samples: Sequence[Any],
        *,
        spec: DatasetSpec,
        vocabulary: Vocabulary,
        rng: np.random.Generator,
        divisibility: int,
        min_canvas: Size,
    ) -> Any: ...


class Source(NamedTuple):
    """One data set, ready to be drawn from."""

    spec: DatasetSpec
    records: Records
    mapper: Mapping


class BatchMaker(Dataset[Any]):
    """Makes the batch of a draw. The same draw gives the same batch, in whichever worker and run."""

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        collate: Collate,
        seed: int,
        rank: int,
        divisibility: int,
        min_canvas: Size = (1, 1),
    ) -> None:
        self.sources = tuple(sources)
        self.collate = collate
        self.seed = seed
        self.rank = rank
        self.divisibility = divisibility
        self.min_canvas = min_canvas

    def __getitem__(self, draw: Draw) -> Any:
        source = self.sources[draw.dataset]
        unreadable: dict[str, str] = {}
        samples = [self._sample(source, draw, place, unreadable) for place in range(len(draw.images))]
        batch = self.collate(
            samples,
            spec=source.spec,
            vocabulary=source.records.vocabulary,
            rng=np.random.default_rng([self.seed, draw.step, self.rank, len(samples)]),
            divisibility=self.divisibility,
            min_canvas=self.min_canvas,
        )
        return batch._replace(unreadable=tuple(unreadable.items()))

    def _sample(self, source: Source, draw: Draw, place: int, unreadable: dict[str, str]) -> Any:
        index = draw.images[place]
        for attempt in range(_ATTEMPTS):
            rng = np.random.default_rng([self.seed, draw.step, self.rank, place, attempt])
            if attempt:
                index = int(rng.integers(len(source.records)))
            name = f"image {index} of {source.spec.name}"
            try:
                record = source.records[index]
                name = str(record.file)
                return source.mapper(record, rng)
            except (OSError, ValueError) as error:
                unreadable[name] = str(error)
        raise ValueError(
            f"data set {source.spec.name!r}: {_ATTEMPTS} images in a row cannot be read; {_listed(unreadable)}"
        )


class OneOf(Dataset[Any]):
    """Each batch comes from one of several makers, all equally often; of one step from the same one in all processes.

    Args:
        makers: of the same data sets, that differ in how large their batches are.
    """

    def __init__(self, makers: Sequence[BatchMaker], *, seed: int) -> None:
        self.makers = tuple(makers)
        self.seed = seed

    def __getitem__(self, draw: Draw) -> Any:
        return self.makers[int(np.random.default_rng([self.seed, draw.step]).integers(len(self.makers)))][draw]


class _Caught(Dataset[Any]):
    """A data set whose errors come back as values: raised in a worker, they would arrive as the text of a traceback."""

    def __init__(self, inner: Dataset[Any]) -> None:
        self.inner = inner

    def __getitem__(self, index: Any) -> Any:
        try:
            return self.inner[index]
        except (OSError, ValueError) as error:
            return error


def _raised(loader: Iterable[Any]) -> Generator[Any, None, None]:
    for value in loader:
        if isinstance(value, Exception):
            raise value
        yield value


class TrainingLoader(Iterable[Any]):
    """Endless batches of one process. Each names the images that could not be read in `unreadable`; who trains counts.

    Args:
        maker: makes a batch of a draw.
        draws: the draws, in order.
        num_workers: processes that make batches ahead of time; 0 = make them when they are asked for.
    """

    def __init__(self, maker: BatchMaker | OneOf, draws: Iterable[Draw], *, num_workers: int) -> None:
        self.maker = maker
        self.draws = draws
        self.num_workers = num_workers

    def __iter__(self) -> Iterator[Any]:
        loader = DataLoader(
            _Caught(self.maker),
            batch_size=None,
            sampler=self.draws,
            num_workers=self.num_workers,
            collate_fn=_as_is,
            generator=torch.Generator().manual_seed(self.maker.seed),  # the global one stays as it is
            worker_init_fn=pass_over_first,
        )
        return closed_at_exit(_raised(loader))


def _listed(unreadable: dict[str, str]) -> str:
    return "; ".join(reason if file in reason else f"{file}: {reason}" for file, reason in unreadable.items())


class _TestImages(Dataset[tuple[ImageRecord, Any]]):
    def __init__(self, records: Records, prepare: Callable[[NDArray[np.uint8]], Any]) -> None:
        self.records = records
        self.prepare = prepare

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[ImageRecord, Any]:
        record = self.records[index]
        pixels = read_image(record.source)
        told, height, width = (record.height, record.width), *pixels.shape[:2]
        if 0 not in told and told != (height, width):
            raise ValueError(
                f"image file '{record.file}' is {height} x {width} (height x width), but its annotations are for "
                f"{told[0]} x {told[1]}; they belong to another version of it"
            )
        return record, self.prepare(pixels)


class TestLoader(Iterable[tuple[ImageRecord, NDArray[np.uint8]]]):
    """Each image of a split once, in file order, at full size; `len` of it is the number of images.

    Args:
        records: of the split.
        num_workers: processes that read; 0 = none but this one.
        rank, world_size: this process, and how many share the images.
        lenient: an image that cannot be read, or is not of its annotations' size, is passed over and kept in
            `left_out`; else it ends the iteration with a ValueError or OSError.
    """

    __test__ = False  # not a test case

    def __init__(
        self, records: Records, *, num_workers: int, rank: int = 0, world_size: int = 1, lenient: bool = False
    ) -> None:
        self.records = records
        self.num_workers = num_workers
        self.lenient = lenient
        self.rows = range(rank, len(records), world_size)
        self.left_out: dict[int, str] = {}  # row -> why, of the last iteration

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[ImageRecord, NDArray[np.uint8]]]:
        return self.prepared(_as_is)

    def prepared(self, prepare: Callable[[NDArray[np.uint8]], Prepared]) -> Iterator[tuple[ImageRecord, Prepared]]:
        """The same with what `prepare` makes of the pixels, in the processes that read.

        Args:
            prepare: small, and to be pickled. An image of which it raises a ValueError or OSError cannot be read.
        """
        return closed_at_exit(self._prepared(prepare))

    def _prepared(
        self, prepare: Callable[[NDArray[np.uint8]], Prepared]
    ) -> Generator[tuple[ImageRecord, Prepared], None, None]:
        images = _Caught(_TestImages(self.records, prepare))
        loader = DataLoader(
            images, batch_size=None, sampler=self.rows, num_workers=self.num_workers, collate_fn=_as_is,
            worker_init_fn=pass_over_first,
        )  # fmt: skip
        self.left_out = {}
        for row, value in zip(self.rows, loader, strict=True):
            if not isinstance(value, Exception):
                yield value
            elif self.lenient:
                self.left_out[row] = str(value)
            else:
                raise value


def _as_is(value: Any) -> Any:
    return value
