"""Part maps and answers to expressions of several images at once: as of one image at a time, each image read once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from reading_model import EXPRESSIONS, photo, reading_predictor, same

from partglee.data import DatasetSpec
from partglee.data.annotations.coco_json import read_coco
from partglee.data.loader import TestLoader
from partglee.data.records import Expression, ImageRecord, Instance
from partglee.engine import Predictor
from partglee.engine.answerers import AnswersBatches, MapsBatches
from partglee.engine.answers import Questions, write_answers
from partglee.engine.partglee_answers import PartGLEEAnswers
from partglee.evaluation.part_map_files import part_map_name
from partglee.evaluation.protocols import EXPRESSIONS as EXPRESSION_FILES
from partglee.evaluation.protocols import PART_MAPS
from partglee.modeling.frame import Frame
from partglee.modeling.multi_label import MultiLabel
from partglee.modeling.part_maps import part_map
from partglee.structures import Prediction, Vocabulary

NAMES = Vocabulary({"dog": ["head", "tail", "ear", "paw", "nose"], "person": ["arm", "lower leg", "hat"], "cup": []})
SEED = 3  # maps of different images differ with it, most of them
SIZES = [(60, 90), (41, 67), (60, 88), (90, 61), (61, 90), (60, 90), (33, 120)]
BATCHES = {1: [1] * 7, 3: [1, 1, 2, 3]}  # all that lie, but the long one, share a canvas


class Listed(list[ImageRecord]):
    vocabulary = NAMES


def records(samples: int = 1, expressions: Sequence[Sequence[str]] = ()) -> Listed:
    """Images of mixed sizes, each with so many samples that follow each other: a dog, a person, a cup."""
    listed = Listed()
    for number, (height, width) in enumerate(SIZES):
        pixels = photo(height, width, seed=number)
        for label in range(samples):
            thing = Instance(label, (1.0, 1.0, 20.0, 20.0), None, annotation_id=label)
            said = tuple(Expression(text, (0,)) for text in (expressions[number] if expressions else ()))
            listed.append(
                ImageRecord(
                    Path(f"{number}.jpg"), height, width, len(listed) + 1, (thing,), (), pixels=pixels, expressions=said
                )
            )
    return listed


def questions(listed: Listed, *, by_object: bool = False) -> Questions:
    options = {"by_object": by_object}
    spec = DatasetSpec(name="some", annotations="", images="", reader=read_coco, options=options)  # type: ignore[arg-type]
    return Questions(spec, TestLoader(listed, num_workers=0))  # type: ignore[arg-type]


def answers(predictor: Predictor, batch_size: int) -> PartGLEEAnswers:
    some = MultiLabel(object_queries=5, part_queries=5, detections=5)
    return PartGLEEAnswers(predictor=predictor, multi_label=some, map_queries=7, batch_size=batch_size)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Images of every pass through the backbone."""
    counts: list[int] = []
    whole = Predictor.encode_batch

    def watched(self: Predictor, images: Any) -> Any:
        counts.append(len(images))
        return whole(self, images)

    monkeypatch.setattr(Predictor, "encode_batch", watched)
    return counts


@pytest.fixture(scope="module")
def reader() -> Predictor:
    """Of random weights, so that its maps of different images differ."""
    predictor = reading_predictor()
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for weight in predictor.model.parameters():
            if weight.dim() > 1:
                weight.copy_(torch.randn(weight.shape, generator=generator) / weight[0].numel() ** 0.5)
    return predictor


@pytest.mark.parametrize("by_object", [True, False])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_part_maps(reader: Predictor, tmp_path: Path, passes: list[int], by_object: bool, batch_size: int) -> None:
    """Each is what the model says of that image alone, for the names of the sample's own object."""
    listed = records(samples=3 if by_object else 1)
    answerer = answers(reader, batch_size)
    assert isinstance(answerer, MapsBatches)
    write_answers(PART_MAPS, answerer, questions(listed, by_object=by_object), tmp_path)
    assert sorted(passes) == sorted(BATCHES[batch_size])
    written = []
    for record in listed:
        file = tmp_path / part_map_name(record, by_object=by_object)
        columns = NAMES.part_columns(NAMES.object_names[record.objects[0].label]) if by_object else None
        if columns == ():
            assert not file.exists()  # a cup has no parts
            continue
        image = reader.read(record.pixels)
        with torch.no_grad():
            batch = reader.model.batch([image.resized])
            output = reader.model(batch, reader.model.embed(NAMES))
        frame = Frame(batch.canvas, batch.sizes[0], image.size)
        expected = part_map(output, 0, frame, columns=columns, queries=7).numpy()
        found = np.asarray(Image.open(file))
        if columns is None:
            expected = np.where(expected == len(NAMES.part_names), found.max(), expected)
        assert found.shape == expected.shape and (found != expected).mean() < 1e-3
        written.append(found.tobytes())
    assert len(written) == len(list(tmp_path.iterdir())) == (14 if by_object else 7)
    assert len(set(written)) >= 6


@pytest.mark.parametrize("batch_size", [1, 3])
def test_expressions(reader: Predictor, tmp_path: Path, passes: list[int], batch_size: int) -> None:
    """In the order of the data set, whatever shares a batch; an image may have none."""
    asked = [EXPRESSIONS, ["a dog"], ["two", "three"], [], ["her hat"], ["cup"], ["a", "b", "c"]]
    listed = records(expressions=asked)
    answerer = answers(reader, batch_size)
    assert isinstance(answerer, AnswersBatches)
    write_answers(EXPRESSION_FILES, answerer, questions(listed), tmp_path / "said.jsonl")
    assert sorted(passes) == sorted(BATCHES[batch_size])
    lines = [json.loads(line) for line in (tmp_path / "said.jsonl").read_text().splitlines()]
    assert [(line["image_id"], line["expression"], line["text"]) for line in lines] == [
        (number + 1, place, text) for number, texts in enumerate(asked) for place, text in enumerate(texts)
    ]
    expected = [one for record, texts in zip(listed, asked, strict=True) for one in reader.ground(record.pixels, texts)]
    for line, answer in zip(lines, expected, strict=True):
        ours, theirs = (Prediction.from_json(json.dumps(one)) for one in (line, answer.to_dict()))
        same(replace(ours, file_name=None), theirs, atol=1e-2, rtol=1e-3)


def test_a_model_that_takes_one_image_at_a_time(tmp_path: Path) -> None:
    """Its pixels are as they were, and it is asked once about an image with several samples."""
    asked: list[tuple[int, ...]] = []

    class Halves:
        def part_maps(self, pixels: np.ndarray, vocabulary: Vocabulary) -> Any:
            asked.append(pixels.shape)
            return lambda columns: np.full(pixels.shape[:2], columns[-1], np.int64)

    write_answers(PART_MAPS, Halves(), questions(records(samples=2), by_object=True), tmp_path)
    assert asked == [(*size, 3) for size in SIZES] and len(list(tmp_path.iterdir())) == 14
