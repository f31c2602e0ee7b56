"""Who writes the predictions of a data set: for each kind of file one function, and what it asks of a model.

A model is evaluated through an *answerer*, an object with some of the methods of `partglee.engine.answerers`. The
scoring protocol of a data set says the kind of file (`partglee.evaluation.protocols`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from partglee.basics.files import whole_file
from partglee.data.loader import TestLoader
from partglee.data.records import ImageRecord, Records
from partglee.data.spec import DatasetSpec
from partglee.engine.answerers import (
    Answer,
    AnswersBatches,
    AnswersExpressions,
    DetectsBatches,
    DetectsNames,
    LabelMaps,
    MapsBatches,
    MapsParts,
    PreparesImages,
)
from partglee.engine.batches import canvas_batches, in_order
from partglee.evaluation.part_map_files import part_map_name, write_part_map
from partglee.evaluation.protocols import DETECTIONS, EXPRESSIONS, PART_MAPS, FileKind
from partglee.structures import Prediction, Vocabulary

Pictures = dict[str, NDArray[np.uint8]]
"""File name -> (H, W, 3) RGB."""
_Asked = TypeVar("_Asked")
_Told = TypeVar("_Told")


class Questions(NamedTuple):
    """A data set and the images of it that this process answers for."""

    spec: DatasetSpec
    loader: TestLoader


Writer = Callable[[Any, Questions, Path, int], Pictures]
"""(answerer, data, file or folder to write, how many pictures at most) -> pictures."""


def write_answers(kind: FileKind, answerer: Any, data: Questions, file: Path, *, pictures: int = 0) -> Pictures:
    """Write the predictions of this process.

    Args:
        answerer: see `partglee.engine.answerers`.
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

    def one(image: Any, record: ImageRecord) -> Prediction:
        return answerer.detect(image, vocabulary, masks=masks)

    def many(images: Sequence[Any], records: Sequence[ImageRecord]) -> Iterable[Prediction]:
        return cast("DetectsBatches", answerer).detect_batch(images, vocabulary, masks=masks)

    def lines() -> Iterator[tuple[int, str]]:
        images = _prepared(answerer, data.loader)
        for place, record, image, found in _answered(
            answerer, images, one, many if isinstance(answerer, DetectsBatches) else None
        ):
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


def write_part_maps(answerer: MapsParts, data: Questions, folder: Path, pictures: int = 0) -> Pictures:
    """One map for each sample.

    Nothing of the annotated object enters the network: it only says which part names may appear (Oracle-Obj).
    """
    del pictures
    names = data.loader.records.vocabulary
    by_object = bool(data.spec.options["by_object"])

    def one(image: Any, records: Sequence[ImageRecord]) -> LabelMaps:
        return answerer.part_maps(image, names)

    def many(images: Sequence[Any], records: Sequence[Sequence[ImageRecord]]) -> Iterable[LabelMaps]:
        return cast("MapsBatches", answerer).part_maps_batch(images, names)

    for _, records, _, maps in _answered(
        answerer, _samples(answerer, data.loader), one, many if isinstance(answerer, MapsBatches) else None
    ):
        for record in records:
            columns = names.part_columns(names.object_names[record.objects[0].label]) if by_object else None
            if columns or columns is None:
                write_part_map(maps(columns).astype(np.int64), folder / part_map_name(record, by_object=by_object))
    return {}


def _samples(answerer: Any, loader: TestLoader) -> Iterator[tuple[list[ImageRecord], Any]]:
    """Images with objects, each with all of its samples, which follow each other."""
    asked = ((record, image) for record, image in _prepared(answerer, loader) if record.objects)
    for _, same in groupby(asked, key=lambda pair: pair[0].file):
        records, images = zip(*same, strict=True)
        yield list(records), images[0]


def write_expressions(answerer: AnswersExpressions, data: Questions, file: Path, pictures: int = 0) -> Pictures:
    """One line for each expression."""
    del pictures

    def one(image: Any, record: ImageRecord) -> Sequence[Answer]:
        return answerer.answer(image, _texts(record))

    def many(images: Sequence[Any], records: Sequence[ImageRecord]) -> Iterable[Sequence[Answer]]:
        return cast("AnswersBatches", answerer).answer_batch(images, [_texts(record) for record in records])

    def lines() -> Iterator[tuple[int, str]]:
        images = _prepared(answerer, data.loader)
        for place, record, _, answers in _answered(
            answerer, images, one, many if isinstance(answerer, AnswersBatches) else None
        ):
            yield place, "".join(_expression_lines(record, answers))

    with whole_file(file) as beside, beside.open("w", encoding="utf-8") as file_lines:
        file_lines.writelines(in_order(lines()))
    return {}


def _texts(record: ImageRecord) -> list[str]:
    return [said.text for said in record.expressions]


def _expression_lines(record: ImageRecord, answers: Sequence[Answer]) -> Iterator[str]:
    for place, (said, answer) in enumerate(zip(record.expressions, answers, strict=True)):
        where = {"image_id": record.image_id, "expression": place, "text": said.text}
        yield json.dumps({**answer.to_dict(), "file_name": record.file.as_posix(), **where}) + "\n"


def _prepared(answerer: Any, loader: TestLoader) -> Iterator[tuple[ImageRecord, Any]]:
    """Records, and their images as the answerer takes them, read ahead."""
    return loader.prepared(answerer.prepare) if isinstance(answerer, PreparesImages) else iter(loader)


_NOTHING = object()


def _answered(
    answerer: Any,
    images: Iterable[tuple[_Asked, Any]],
    one: Callable[[Any, _Asked], _Told],
    many: Callable[[Sequence[Any], Sequence[_Asked]], Iterable[_Told]] | None,
) -> Iterator[tuple[int, _Asked, Any, _Told]]:
    """(place, what is asked about an image, image as the answerer takes it, answer), in batches where it takes them.

    Args:
        many: of an answerer that takes batches; None = one image at a time.
    """
    if many is None:
        for place, (asked, image) in enumerate(images):
            yield place, asked, image, one(image, asked)
        return
    batches = canvas_batches(images, canvas=lambda pair: answerer.canvas(pair[1]), batch_size=answerer.batch_size)
    for batch in batches:
        some, pictures = [asked for _, (asked, _) in batch], [image for _, (_, image) in batch]
        answers = iter(many(pictures, some))
        for count, (place, (asked, image)) in enumerate(batch):
            told = next(answers, _NOTHING)
            if told is _NOTHING:
                raise ValueError(f"{type(answerer).__name__} gave {count} answers for a batch of {len(batch)} images")
            yield place, asked, image, cast("_Told", told)
        if next(answers, _NOTHING) is not _NOTHING:
            raise ValueError(f"{type(answerer).__name__} gave more answers than the {len(batch)} images of a batch")


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
