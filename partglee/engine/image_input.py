"""Images as a predictor takes them: read, resized, with the way back to their own pixels; many files, good and bad.

B images, (H, W) an image as it is, (h, w) as the network sees it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from partglee.data.images import MAX_PIXELS, ImageSource, read_image
from partglee.data.web import fetched, is_url
from partglee.engine.batches import canvas_of, check_batch_size, lists_of, read_ahead
from partglee.engine.precision import PRECISIONS, autocast
from partglee.modeling.frame import Frame
from partglee.structures import ImageBatch

FAILURES = (ValueError, OSError, RuntimeError, MemoryError)  # of one image, not of the program
_READERS = 2  # threads
_BATCHES_AHEAD = 8  # images are read for so many batches before one is predicted, so that equal sizes meet
Answer = TypeVar("Answer")


class InputImage(NamedTuple):
    """One image, read and resized."""

    pixels: NDArray[np.uint8]  # (H, W, 3) RGB, upright
    resized: Tensor  # (3, h, w) uint8
    file_name: str | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return int(self.pixels.shape[0]), int(self.pixels.shape[1])

    def canvas(self, divisibility: int) -> tuple[int, int]:
        """What it has in common with the images that may share its batch."""
        return canvas_of(int(self.resized.shape[1]), int(self.resized.shape[2]), divisibility)


class ImageInput:
    """How a network sees images.

    Args:
        short_side, max_side: images are resized so that the short side has this many pixels, unless the long side would
            pass `max_side`.
        squash: (h, w) of every image instead, whatever its ratio.
        precision: `float32`, or `bfloat16` / `float16` / `mixed` (bfloat16 after the backbone) for autocast.
        max_pixels: larger images are refused.
    """

    def __init__(
        self,
        *,
        short_side: int = 800,
        max_side: int = 1333,
        squash: tuple[int, int] | None = None,
        precision: str = "float32",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        if precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
        if not 1 <= short_side <= max_side:
            raise ValueError(f"expected 1 <= short_side <= max_side, got {short_side} and {max_side}")
        if squash is not None and min(squash) < 1:
            raise ValueError(f"squash must be (h, w), both at least 1, got {squash}")
        self.short_side = short_side
        self.max_side = max_side
        self.squash = squash
        self.precision = precision
        self.max_pixels = max_pixels

    def read(self, source: ImageSource | InputImage) -> InputImage:
        """Read and resize one image; what has been read already is given back. An address (http, https) is fetched.

        Raises:
            FileNotFoundError, IsADirectoryError, ValueError, TypeError: as `partglee.data.images.read_image`.
        """
        if isinstance(source, InputImage):
            return source
        if isinstance(source, str) and is_url(source):
            with fetched(source) as file:
                try:
                    pixels = read_image(file, max_pixels=self.max_pixels)
                except ValueError as error:
                    raise ValueError(str(error).replace(str(file), source)) from error
        else:
            pixels = read_image(source, max_pixels=self.max_pixels)
        name = str(source) if isinstance(source, (str, os.PathLike)) else None
        return InputImage(pixels, self.resize(pixels), name)

    def resize(self, pixels: NDArray[np.uint8]) -> Tensor:
        """(H, W, 3) uint8 -> (3, h, w) uint8."""
        height, width = pixels.shape[:2]
        if self.squash is not None:
            size = self.squash[1], self.squash[0]
        else:
            scale = min(self.short_side / min(height, width), self.max_side / max(height, width))
            size = max(1, int(width * scale + 0.5)), max(1, int(height * scale + 0.5))
        if size != (width, height):
            pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
        return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """The context to run the network in."""
        return autocast(device, self.precision)


def usable_device(device: str | torch.device | None) -> torch.device:
    """The device of that name; None = a GPU when there is one.

    Raises:
        ValueError: for a wrong name or a missing GPU.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"unknown device {device!r}; try cpu, cuda or cuda:0") from error
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {device} is not there: {torch.cuda.device_count()} CUDA devices; use cpu")
    return chosen


def frames(images: Sequence[InputImage], batch: ImageBatch) -> list[Frame]:
    """The way of each image of a batch from the canvas back to its own pixels."""
    return [Frame(batch.canvas, size, image.size) for image, size in zip(images, batch.sizes, strict=True)]


class ReadsImages(Protocol):
    """What `predict_files` asks of a predictor."""

    def read(self, source: ImageSource) -> InputImage: ...


def predict_files(
    predictor: ReadsImages,
    files: Iterable[str | Path],
    predict: Callable[[list[InputImage]], Sequence[Answer]],
    *,
    batch_size: int = 1,
) -> Iterator[tuple[str | Path, Answer | Exception]]:
    """Go through many files; one that cannot be read or predicted gives its error instead of ending the run.

    >>> for file, found in predict_files(predictor, files, lambda images: predictor(images, names)):  # doctest: +SKIP
    ...     print(file, found if isinstance(found, Exception) else found.tree())

    Args:
        predict: images, read -> one answer for each.
        batch_size: of `predict`; images are read for several batches at once, ahead of it, by threads.

    Yields:
        Each file, in order, with its answer or with the error that it ended in (`FAILURES`). When a batch fails, its
        images are tried one by one.
    """
    check_batch_size(batch_size)
    alone = batch_size == 1
    read = read_ahead(
        lambda file: (file, _or_error(predictor.read, file)), files,
        workers=0 if alone else _READERS, ahead=2 * batch_size,
    )  # fmt: skip
    for pairs in lists_of(read, 1 if alone else batch_size * _BATCHES_AHEAD):
        some, answers = [file for file, _ in pairs], [answer for _, answer in pairs]
        rows = [row for row, image in enumerate(answers) if not isinstance(image, Exception)]
        images = [answers[row] for row in rows]
        found: Any = _or_error(predict, images) if images else []
        if isinstance(found, Exception):
            each = [found] if len(images) == 1 else [_or_error(predict, [image]) for image in images]
            found = [one if isinstance(one, Exception) else one[0] for one in each]
        for row, answer in zip(rows, found, strict=True):
            answers[row] = answer
        yield from zip(some, answers, strict=True)


def _or_error(function: Callable[[Any], Any], argument: Any) -> Any:
    try:
        return function(argument)
    except FAILURES as error:
        return error
