"""Who writes the predictions of a data set: for each kind of file one function, and what it asks of a model.

A model is evaluated through an *answerer*, an object with the methods of the protocols below; it needs those alone that
its data sets ask for. The scoring protocol of a data set says the kind of file (`partglee.evaluation.protocols`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from partglee.basics.files import whole_file
from partglee.data.loader import TestLoader
from partglee.data.records import ImageRecord, Records
from partglee.data.spec import DatasetSpec
from partglee.engine.batches import canvas_batches, in_order
from partglee.evaluation.part_map_files import part_map_name, write_part_map
from partglee.evaluation.protocols import DETECTIONS, EXPRESSIONS, PART_MAPS, FileKind
from partglee.structures import Prediction, Vocabulary

Pictures = dict[str, NDArray[np.uint8]]
"""File name -> (H, W, 3) RGB."""


@runtime_checkable
class DetectsNames(Protocol):
    """Finds objects and parts of a vocabulary, for files of detections. `pixels` are (H, W, 3) uint8 RGB."""

    def detect(self, pixels: NDArray[np.uint8], vocabulary: Vocabulary, *, masks: bool) -> Prediction:
        """All that is to be scored; without masks where the annotations have none."""
        ...

    def show(self, pixels: NDArray[np.uint8], vocabulary: Vocabulary) -> Prediction:
        """What a user would see, for the pictures."""
        ...


@runtime_checkable
class MapsParts(Protocol):
    """Gives each pixel a part name, for folders of part maps."""

    def part_maps(
        self, pixels: NDArray[np.uint8], vocabulary: Vocabulary
    ) -> Callable[[Sequence[int] | None], NDArray[np.integer[Any]]]:
        """Part columns that may appear (None = all, and none at all where nothing is seen) -> (H, W) part columns.

        The network reads the image once, whatever is asked of it.
        """
        ...


@runtime_checkable
class PreparesImages(Protocol):
    """For any kind of file: makes of pixels what the methods that answer take in their place."""

    @property
    def prepare(self) -> Callable[[NDArray[np.uint8]], Any]:
        """Small and to be pickled, since it runs in the processes that read images ahead: resizes, for example."""
        ...


@runtime_checkable
class DetectsBatches(DetectsNames, PreparesImages, Protocol):
    """Finds objects and parts in several images together, for files of detections."""

    batch_size: int

    def canvas(self, image: Any) -> Hashable:
        """What prepared images of one batch have in common."""
        ...

    def detect_batch(self, images: Sequence[Any], vocabulary: Vocabulary, *, masks: bool) -> Iterable[Prediction]:
        """As `detect`, of each of at most `batch_size` prepared images of one canvas."""
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


class Questions(NamedTuple):
    """A data set and the images of it that this process answers for."""

    spec: DatasetSpec
    loader: TestLoader


Writer = Callable[[Any, Questions, Path, int], Pictures]
"""(answerer, data, file or folder to write, how many pictures at most) -> pictures."""


def write_answers(kind: FileKind, answerer: Any, data: Questions, file: Path, *, pictures: int = 0) -> Pictures:
    """Write the predictions of this process.

    Args:
        answerer: see the module's text.
        file: of this process; a folder is shared by all.
        pictures: as many as are wanted at most; kinds of files that nobody draws give none.

    Raises:
        ValueError: as `writer_of`.
    """
    return writer_of(kind, answerer, data.spec.name)(answerer, data, file, pictures)


def writer_of(kind: FileKind, answerer: Any, name: str) -> Writer:
    """Who writes a kind of file for a model.

    Args:
        name: of the data set that asks for it, for messages.

    Raises:
        ValueError: when nobody writes it, or the model does not answer what it holds.
    """
    if kind.name not in _WRITERS:
        raise ValueError(
            f"data set {name!r} is scored from {kind.what}, which no model here writes; "
            "`partglee.engine.answers.register_writer` adds who does"
        )
    needs, writer = _WRITERS[kind.name]
    if needs is not None and not isinstance(answerer, needs):
        raise ValueError(
            f"data set {name!r} is scored from {kind.what}, but this model has no such answers "
            f"({type(answerer).__name__} is no {needs.__name__}); take it out of DATASETS.TEST"
        )
    return writer


def register_writer(kind: FileKind, writer: Writer, *, needs: type | None = None) -> None:
    """Add who writes a kind of file that a scoring protocol of a project reads.

    Args:
        needs: runtime-checkable protocol that an answerer must have.

    Raises:
        ValueError: when somebody writes it already.
    """
    if kind.name in _WRITERS and _WRITERS[kind.name] != (needs, writer):
        raise ValueError(f"{kind.what} ({kind.name!r}) is written already; give your kind of file another name")
    _WRITERS[kind.name] = (needs, writer)


def write_detections(answerer: DetectsNames, data: Questions, file: Path, pictures: int = 0) -> Pictures:
    """One line for each image: objects and parts of the data set's vocabulary."""
    vocabulary, masks = data.loader.records.vocabulary, has_masks(data.loader.records)
    drawn: Pictures = {}

    def lines() -> Iterator[tuple[int, str]]:
        for place, record, image, found in _detected(answerer, data.loader, vocabulary, masks=masks):
            if place < pictures:
                shown = answerer.show(image, vocabulary)
                pixels = image if shown.image is None else shown.image
                drawn[record.file.name or str(record.image_id)] = np.asarray(
                    shown.draw(pixels, scale=1.0).convert("RGB")
                )
            yield place, json.dumps(_with_owners(found, record, vocabulary)) + "\n"

    with whole_file(file) as beside, beside.open("w", encoding="utf-8") as file_lines:
        file_lines.writelines(in_order(lines()))
    return drawn


def _detected(
    answerer: DetectsNames, loader: TestLoader, vocabulary: Vocabulary, *, masks: bool
) -> Iterator[tuple[int, ImageRecord, Any, Prediction]]:
    """(place in the file, record, image as the answerer takes it, what it found), in batches where it takes them."""
    images = _prepared(answerer, loader)
    if not isinstance(answerer, DetectsBatches):
        for place, (record, image) in enumerate(images):
            yield place, record, image, answerer.detect(image, vocabulary, masks=masks)
        return
    batches = canvas_batches(
        images, canvas=lambda pair: answerer.canvas(pair[1]), batch_size=answerer.batch_size
    )  # fmt: skip
    for batch in batches:
        found = answerer.detect_batch([image for _, (_, image) in batch], vocabulary, masks=masks)
        for (place, (record, image)), prediction in zip(batch, found, strict=True):
            yield place, record, image, prediction


def _prepared(answerer: Any, loader: TestLoader) -> Iterator[tuple[ImageRecord, Any]]:
    """Records, and their images as the answerer takes them, read ahead."""
    return loader.prepared(answerer.prepare) if isinstance(answerer, PreparesImages) else iter(loader)


def write_part_maps(answerer: MapsParts, data: Questions, folder: Path, pictures: int = 0) -> Pictures:
    """One map for each sample.

    Nothing of the annotated object enters the network: it only says which part names may appear (Oracle-Obj).
    """
    del pictures
    names = data.loader.records.vocabulary
    by_object = bool(data.spec.options["by_object"])
    last = None
    for record, pixels in _prepared(answerer, data.loader):
        if not record.objects:
            continue
        if last != record.file:  # samples of one image follow each other
            maps, last = answerer.part_maps(pixels, names), record.file
        columns = names.part_columns(names.object_names[record.objects[0].label]) if by_object else None
        if columns or columns is None:
            write_part_map(maps(columns).astype(np.int64), folder / part_map_name(record, by_object=by_object))
    return {}


def write_expressions(answerer: AnswersExpressions, data: Questions, file: Path, pictures: int = 0) -> Pictures:
    """One line for each expression."""
    del pictures
    with whole_file(file) as beside, beside.open("w", encoding="utf-8") as lines:
        for record, pixels in _prepared(answerer, data.loader):
            answers = answerer.answer(pixels, [said.text for said in record.expressions])
            for place, (said, answer) in enumerate(zip(record.expressions, answers, strict=True)):
                where = {"image_id": record.image_id, "expression": place, "text": said.text}
                line = {**answer.to_dict(), "file_name": record.file.as_posix(), **where}
                lines.write(json.dumps(line) + "\n")
    return {}


_WRITERS: dict[str, tuple[type | None, Writer]] = {
    DETECTIONS.name: (DetectsNames, write_detections),
    EXPRESSIONS.name: (AnswersExpressions, write_expressions),
    PART_MAPS.name: (MapsParts, write_part_maps),
}


def has_masks(records: Records) -> bool:
    """Whether masks are worth writing: some annotation has one, or there is none to say."""
    known: bool | None = getattr(records, "has_masks", None)
    if known is not None:
        return known
    annotated = False
    for index in range(len(records)):
        record = records[index]
        for instance in (*record.objects, *record.parts):
            if instance.segmentation is not None:
                return True
            annotated = True
    return not annotated


def _with_owners(prediction: Prediction, record: ImageRecord, vocabulary: Vocabulary) -> dict[str, Any]:
    """As `Prediction.to_dict`, with the image's id, and with the object that a part's name belongs to.

    The object of the name need not be that of the parent, and a part may have no parent.
    """
    line = prediction.to_dict(image_id=record.image_id)
    for row in line["results"]:
        owners = vocabulary.part_owner[row["label"]] if row["level"] == "part" else ()
        if len(owners) == 1:
            row["object"] = vocabulary.object_names[owners[0]]
    return {**line, "file_name": record.file.as_posix(), "image_id": record.image_id}
