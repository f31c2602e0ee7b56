"""Who writes the predictions of a data set: any model that offers the few methods is evaluated by the same loop."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import nn
from training_samples import small_config

from partglee.config import get_cfg
from partglee.data import DatasetSpec, ImageRecord, get_dataset, register
from partglee.data.records import Expression
from partglee.data.segmentation import decode
from partglee.engine import answers
from partglee.engine.answers import has_masks, register_writer
from partglee.engine.evaluate import evaluate
from partglee.engine.partglee_recipe import PARTGLEE
from partglee.engine.run import work
from partglee.evaluation import Protocol, protocols, register_protocol
from partglee.evaluation.protocols import FileKind
from partglee.structures import Level, Prediction
from partglee.testing import TOY_VOCABULARY, register_toy, write_name_table


@pytest.fixture
def expressions() -> list[ImageRecord]:
    """Two scenes, in which each object is meant by one sentence; registered as `toy_said`."""
    register_toy("toy_answers", num_images=2, seed=3, size=(48, 64))
    spec = get_dataset("toy_answers")
    inner = spec.read()
    said = [
        replace(inner[i], expressions=tuple(Expression(f"thing {k}", (k,)) for k in range(len(inner[i].objects))))
        for i in range(2)
    ]

    class Said(list[Any]):
        vocabulary = inner.vocabulary

    register(replace(spec, name="toy_said", evaluator="referring", reader=lambda spec: Said(said)), replace=True)
    return said


class Guest:
    """A model of another kind: it knows the answers, and answers nothing but sentences."""

    def __init__(self, records: Sequence[ImageRecord], wrong: bool = False) -> None:
        self.records = {record.pixels.tobytes(): record for record in records if record.pixels is not None}
        self.wrong = wrong

    def answer(self, image: NDArray[np.uint8], expressions: Sequence[str]) -> list[Prediction]:
        record = self.records[image.tobytes()]
        found = []
        for text in expressions:
            thing = record.objects[int(text.split()[1])]
            mask = decode(thing.segmentation, record.height, record.width)
            found.append(
                Prediction(
                    boxes=np.array([thing.box]),
                    scores=np.ones(1),
                    labels=np.zeros(1),
                    names=[text],
                    level=np.array([Level.OBJECT]),
                    parent=np.array([-1]),
                    image_size=mask.shape,
                    masks=torch.from_numpy(~mask if self.wrong else mask)[None],
                )
            )
        return found


def scored(guest: Any, name: str, folder: Path) -> dict[str, float]:
    cfg = get_cfg()
    cfg.DATASETS.TEST, cfg.DATALOADER.NUM_WORKERS = [name], 0
    model = nn.Linear(1, 1).train()
    results, _ = evaluate(cfg, model, Accelerator(cpu=True), answerer=lambda cfg, model: guest, folder=folder)
    assert model.training
    return results


def test_another_model_is_evaluated_by_the_same_loop(expressions: list[ImageRecord], tmp_path: Path) -> None:
    right = scored(Guest(expressions), "toy_said", tmp_path)
    assert right["toy_said/mask/oIoU"] == right["toy_said/box/P@0.5"] == 100
    lines = [json.loads(line) for line in (tmp_path / "toy_said.jsonl").read_text().splitlines()]
    assert len(lines) == sum(len(record.expressions) for record in expressions)
    assert (lines[0]["expression"], lines[0]["text"]) == (0, "thing 0")
    assert scored(Guest(expressions, wrong=True), "toy_said", tmp_path)["toy_said/mask/oIoU"] == 0


def test_what_a_model_does_not_answer_is_told(expressions: list[ImageRecord], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'toy_answers' is scored from a file of detections, but this model has no"):
        scored(Guest(expressions), "toy_answers", tmp_path)


def test_a_kind_of_file_of_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocols, "_PROTOCOLS", dict(protocols._PROTOCOLS))
    monkeypatch.setattr(answers, "_WRITERS", dict(answers._WRITERS))
    register_toy("toy_counted", num_images=3, size=(48, 64))
    table = FileKind("counts", "a table of counts", (".csv",))
    register_protocol(
        Protocol(
            name="counted",
            reads=table,
            metrics=("sum",),
            score=lambda file, records, options: {"sum": float(sum(map(int, file.read_text().split())))},
        )
    )
    spec: DatasetSpec = replace(get_dataset("toy_counted"), evaluator="counted")
    register(spec, replace=True)
    with pytest.raises(ValueError, match="from a table of counts, which no model here writes"):
        scored(object(), "toy_counted", tmp_path)

    def write(answerer: Any, data: answers.Questions, file: Path, pictures: int) -> answers.Pictures:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(str(answerer(pixels)) for _, pixels in data.loader))
        return {}

    register_writer(table, write)
    assert scored(lambda pixels: pixels.shape[0], "toy_counted", tmp_path) == {"toy_counted/sum": 3 * 48.0}
    assert (tmp_path / "toy_counted.csv").is_file()
    with pytest.raises(ValueError, match="is written already"):
        register_writer(table, lambda *_: {})


def test_masks_are_written_where_annotations_have_them(expressions: list[ImageRecord], tmp_path: Path) -> None:
    class Plain(list[Any]):
        vocabulary = get_dataset("toy_said").read().vocabulary

    assert has_masks(Plain(expressions)) and has_masks(Plain())
    boxes = [
        replace(record, objects=tuple(replace(o, segmentation=None) for o in record.objects), parts=())
        for record in expressions
    ]
    assert not has_masks(Plain(boxes))
    register_toy("toy_files", num_images=1, folder=tmp_path)
    assert has_masks(get_dataset("toy_files").read())


def test_a_run_ends_before_the_first_step_when_the_model_cannot_answer(tmp_path: Path) -> None:
    register_toy("toy_unanswered", num_images=2, size=(48, 64))
    recipe = replace(PARTGLEE, answerer=lambda cfg, model: object(), build_step=lambda cfg, model: 1 / 0)
    cfg = small_config(tmp_path, ["DATASETS.TRAIN", ["toy_unanswered"], "DATASETS.TEST", ["toy_unanswered"]])
    names = [*TOY_VOCABULARY.object_prompts, *TOY_VOCABULARY.part_prompts]
    cfg.MODEL.TEXT.TABLE.FILE = str(write_name_table(tmp_path / "toy.npz", list(dict.fromkeys(names)), width=16))
    with pytest.raises(ValueError, match="'toy_unanswered' is scored from a file of detections, but this model"):
        work(recipe, cfg, resume=False, eval_only=False, cpu=True)
