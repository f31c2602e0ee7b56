"""What evaluation asks of a model: the methods of an *answerer*, which needs those alone that its data sets ask for.

`partglee.engine.answers` writes what they say to files.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from partglee.structures import Prediction, Vocabulary


@runtime_checkable
class DetectsNames(Protocol):
    """Finds objects and parts of a vocabulary, for files of detections. `pixels` are (H, W, 3) uint8 RGB."""

    def detect(self, pixels: NDArray[np.uint8], vocabulary: Vocabulary, *, masks: bool) -> Prediction:
        """All that is to be scored; without masks where the annotations have none."""
        ...

    def show(self, pixels: NDArray[np.uint8], vocabulary: Vocabulary) -> Prediction:
        """What a user would see, for the pictures."""
        ...


LabelMaps = Callable[[Sequence[int] | None], NDArray[np.integer[Any]]]
"""Part columns that may appear (None = all, and none at all where nothing is seen) -> (H, W) part columns."""


@runtime_checkable
class MapsParts(Protocol):
    """Gives each pixel a part name, for folders of part maps."""

    def part_maps(self, pixels: NDArray[np.uint8], vocabulary: Vocabulary) -> LabelMaps:
        """The network reads the image once, whatever is asked of it."""
        ...


@runtime_checkable
class PreparesImages(Protocol):
    """For any kind of file: makes of pixels what the methods that answer take in their place."""

    @property
    def prepare(self) -> Callable[[NDArray[np.uint8]], Any]:
        """Small and to be pickled, since it runs in the processes that read images ahead: resizes, for example."""
        ...


@runtime_checkable
class TakesBatches(PreparesImages, Protocol):
    """For any kind of file: answers for several images together."""

    batch_size: int

    def canvas(self, image: Any) -> Hashable:
        """What prepared images of one batch have in common."""
        ...


@runtime_checkable
class DetectsBatches(DetectsNames, TakesBatches, Protocol):
    """Finds objects and parts in several images together, for files of detections."""

    def detect_batch(self, images: Sequence[Any], vocabulary: Vocabulary, *, masks: bool) -> Iterable[Prediction]:
        """As `detect`, of each of at most `batch_size` prepared images of one canvas."""
        ...


@runtime_checkable
class MapsBatches(MapsParts, TakesBatches, Protocol):
    """Gives pixels of several images part names together, for folders of part maps."""

    def part_maps_batch(self, images: Sequence[Any], vocabulary: Vocabulary) -> Iterable[LabelMaps]:
        """As `part_maps`, of each of at most `batch_size` prepared images of one canvas."""
        ...


class Answer(Protocol):
    """What a model says to one expression."""

    def to_dict(self) -> dict[str, Any]:
        """`height`, `width` and `results` as of `Prediction.to_dict`, the best result first; what else the scoring
        protocol reads, such as `no_target`."""
        ...


@runtime_checkable
class AnswersExpressions(Protocol):
    """Finds what sentences mean, for files of answers to expressions."""

    def answer(self, image: NDArray[np.uint8], expressions: Sequence[str]) -> Sequence[Answer]:
        """One answer for each expression, in order; the image is (H, W, 3) uint8 RGB."""
        ...


@runtime_checkable
class AnswersBatches(AnswersExpressions, TakesBatches, Protocol):
    """Finds what sentences about several images mean, for files of answers to expressions."""

    def answer_batch(self, images: Sequence[Any], expressions: Sequence[Sequence[str]]) -> Iterable[Sequence[Answer]]:
        """As `answer`, of each of at most `batch_size` prepared images of one canvas with its own expressions."""
        ...
