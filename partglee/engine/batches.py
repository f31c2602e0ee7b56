"""Many images, a few at a time: read ahead by threads, in batches of one canvas, answers back in the images' order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Source = TypeVar("Source")
Image = TypeVar("Image")
Answer = TypeVar("Answer")

_BATCHES_WAITED = 8  # an image waits for others of its canvas while so many batches of images are read


def canvas_of(height: int, width: int, divisibility: int) -> tuple[int, int]:
    """(h, w) of an image as the network sees it -> what images of one batch have in common.

    Networks without padding masks see the canvas; so an image gives the same in any batch of one canvas.
    """
    return -(-height // divisibility), -(-width // divisibility)


def check_batch_size(batch_size: int) -> None:
    """TypeError for what is no whole number, ValueError for a batch of less than one image."""
    if not isinstance(batch_size, int):
        raise TypeError(f"batch_size must be a whole number, got {batch_size!r:.60}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")


def check_workers(workers: int) -> None:
    """TypeError for what is no whole number, ValueError for less than none."""
    if not isinstance(workers, int):
        raise TypeError(f"workers must be a whole number, got {workers!r:.60}")
    if workers < 0:
        raise ValueError(f"workers must be at least 0, got {workers}")


def rows_of_a_canvas(sizes: Sequence[tuple[int, int]], *, divisibility: int) -> list[list[int]]:
    """Rows of the images that need the same canvas, in order of their first.

    Args:
        sizes: (h, w) of each image as the network sees it.
    """
    batches: dict[tuple[int, int], list[int]] = {}
    for row, size in enumerate(sizes):
        batches.setdefault(canvas_of(*size, divisibility), []).append(row)
    return list(batches.values())


def canvas_batches(
    images: Iterable[Image], *, canvas: Callable[[Image], Hashable], batch_size: int
) -> Iterator[list[tuple[int, Image]]]:
    """Batches of at most `batch_size` images of the same canvas, each image with its place, as soon as they are full.

    An image of a rare size is not waited for without end: its batch goes as it is once eight batches of images have
    been read after it. So few images are in memory, and answers can be given in order soon. An error of `images` is
    raised after those before it.
    """
    check_batch_size(batch_size)
    failed: list[Exception] = []
    waiting: dict[Hashable, list[tuple[int, Image]]] = {}  # in order of their first image
    for place, image in enumerate(_before_error(images, failed)):
        key = canvas(image)
        waiting.setdefault(key, []).append((place, image))
        if len(waiting[key]) == batch_size:
            yield waiting.pop(key)
        while waiting and next(iter(waiting.values()))[0][0] <= place - _BATCHES_WAITED * batch_size:
            yield waiting.pop(next(iter(waiting)))
    yield from waiting.values()
    _raise(failed)


def in_order(answers: Iterable[tuple[int, Answer]]) -> Iterator[Answer]:
    """Answers with the places 0, 1, ... of their questions, in any order -> the answers in order, each when due."""
    early: dict[int, Answer] = {}
    due = 0
    for place, answer in answers:
        early[place] = answer
        while due in early:
            yield early.pop(due)
            due += 1


def read_ahead(
    read: Callable[[Source], Image], sources: Iterable[Source], *, workers: int, ahead: int
) -> Iterator[Image]:
    """What `read` makes of each source, in order; an error of it is raised in its turn.

    Args:
        workers: threads that read; 0 = read when asked for, and take nothing from `sources` before.
        ahead: sources that are read before the first of them is asked for.
    """
    check_workers(workers)
    if workers == 0:
        yield from map(read, sources)
        return
    failed: list[Exception] = []
    pool = ThreadPoolExecutor(workers, thread_name_prefix="partglee-read")
    try:
        pending: deque[Future[Image]] = deque()
        for source in _before_error(sources, failed):
            pending.append(pool.submit(read, source))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
        _raise(failed)
    finally:
        pool.shutdown(cancel_futures=True)


def lists_of(images: Iterable[Any], count: int) -> Iterator[list[Any]]:
    """Lists of `count` images, in order; the last may have fewer. An error is raised after the images before it."""
    some: list[Any] = []
    failed: list[Exception] = []
    for image in _before_error(images, failed):
        some.append(image)
        if len(some) == count:
            yield some
            some = []
    if some:
        yield some
    _raise(failed)


def _before_error(source: Iterable[Image], failed: list[Exception]) -> Iterator[Image]:
    """What comes before an error, which is put into `failed`."""
    iterator = iter(source)
    while True:
        try:
            item = next(iterator)
        except StopIteration:
            return
        except Exception as error:
            failed.append(error)
            return
        yield item


def _raise(failed: Sequence[Exception]) -> None:
    for error in failed:
        raise error
