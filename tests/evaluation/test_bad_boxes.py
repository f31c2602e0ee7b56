"""Boxes that are none, in every reader: an error that says so, or a miss that is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluation_worlds import dataset, image, rect, result

from partglee.data import DatasetSpec
from partglee.data.annotations.coco_json import read_coco
from partglee.evaluation import (
    CocoEvaluator,
    GeneralizedBoxEvaluator,
    GroundingBoxEvaluator,
    GroundTruth,
    PredictionError,
    score_file,
)
from partglee.evaluation.expression_files import score_expressions
from partglee.structures import Level, Prediction

DOG = rect(0, 4, 0, 4)
FINITE, SIZE = "box not finite", "box of negative size"
BOXES: list[tuple[Any, str]] = [
    ([3.0, 3.0, -2.0, 2.0], SIZE), ([3.0, 3.0, 2.0, -1e-3], SIZE), ([float("nan"), 0, 4, 4], FINITE),
    ([0, 0, float("inf"), 4], FINITE), ([0, -float("inf"), 4, 4], FINITE), ([0, 0, 4], FINITE), ("0044", FINITE),
    (4, FINITE), ([None, 0, 4, 4], FINITE), ([0, 0, 10**400, 4], FINITE),
]  # fmt: skip


def two_dogs() -> dict[str, Any]:
    names = [{"id": 1, "name": "dog", "level": "object"}]
    images = [image(1), image(2, expressions=[["the dog"]])]
    images[0]["expressions"] = [["a dog"]]
    return dataset(images, [(1, 1, DOG), (2, 1, DOG)], names)


def evaluator(**options: Any) -> CocoEvaluator:
    return CocoEvaluator(ground_truth=two_dogs(), kinds=("bbox",), **options)


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@pytest.mark.parametrize(("box", "kind"), BOXES)
def test_files_of_detections(box: Any, kind: str, suffix: str, tmp_path: Path) -> None:
    rows = [result(key, 1, DOG, 0.9, id=1, level="object", name="dog", parent_id=None) for key in (1, 2)]
    rows[1]["bbox"] = box
    lines = [
        json.dumps({"file_name": f"{row['image_id']}.jpg", "height": 4, "width": 4, "results": [row]}) for row in rows
    ]
    file = tmp_path / f"found{suffix}"
    file.write_text(json.dumps(rows) if suffix == ".json" else "\n".join(lines))
    with pytest.raises(PredictionError, match=f"^{kind}: image 2: bbox must be"):
        score_file(file, evaluator())
    with pytest.warns(UserWarning, match=f"1 x {kind}"):
        results = score_file(file, evaluator(strict=False))
    assert results[f"issues/{kind}"] == 1 and results["bbox/AP"] == pytest.approx(100 * 51 / 101)


def test_predictions() -> None:
    """Of a `Prediction`, which itself refuses NaN and infinity."""
    corners = (3.0, 0.0, 1.0, 4.0)
    prediction = Prediction(
        boxes=torch.tensor([corners]), scores=torch.ones(1), labels=torch.zeros(1, dtype=torch.long), names=["dog"],
        level=torch.tensor([Level.OBJECT]), parent=torch.tensor([-1]), image_size=(4, 4),
    )  # fmt: skip
    with pytest.raises(PredictionError, match=SIZE):
        evaluator().process(1, prediction)


@pytest.mark.parametrize(("box", "kind"), BOXES)
def test_answers_to_expressions(box: Any, kind: str, tmp_path: Path) -> None:
    (tmp_path / "truth.json").write_text(json.dumps(two_dogs()))
    spec = DatasetSpec(name="dogs", annotations=str(tmp_path / "truth.json"), images="", reader=read_coco)
    answers = [{"image_id": k, "object": 0, "sentence": 0, "results": [result(k, 1, DOG, 0.9)]} for k in (1, 2)]
    answers[1]["results"][0]["bbox"] = box
    file = tmp_path / "answers.jsonl"
    file.write_text("\n".join(map(json.dumps, answers)))
    with pytest.raises(PredictionError, match=f"^{kind}: line 2 of .*: bbox must be"):
        score_expressions(file, spec.read())
    with pytest.warns(UserWarning, match=f"1 x {kind}"):
        results = score_expressions(file, spec.read(), strict=False)
    assert results["box/P@0.5"] == pytest.approx(50) and results["mask/mIoU"] == pytest.approx(100)


def test_boxes_of_one_expression() -> None:
    box = np.array([0.0, 0, 4, 4])
    for wrong, kind in (([3.0, 0, 1, 4], SIZE), ([0.0, 0, np.inf, 4], "score not finite")):
        with pytest.raises(PredictionError, match=kind):
            GroundingBoxEvaluator().process(1, np.array([wrong]), np.ones(1), box)
        with pytest.raises(PredictionError, match=kind):
            GeneralizedBoxEvaluator().process(1, np.array([wrong]), np.ones(1), box)


def test_a_score_that_is_no_number_is_no_empty_answer() -> None:
    """Left out it would be right where nothing is meant."""
    evaluator = GeneralizedBoxEvaluator(strict=False)
    evaluator.process(1, np.array([[0.0, 0, 4, 4]]), np.array([np.nan]), np.zeros((0, 4)))
    evaluator.process(2, np.zeros((0, 4)), np.zeros(0), np.zeros((0, 4)))
    with pytest.warns(UserWarning, match="1 x score not finite"):
        results = evaluator.evaluate()
    assert results["F1"] == results["N-acc"] == 50
    with pytest.raises(ValueError, match="give one score a box"):
        evaluator.process(3, np.zeros((1, 4)), np.zeros(2), np.zeros((0, 4)))


@pytest.mark.parametrize(("box", "kind"), BOXES)
def test_annotations(box: Any, kind: str) -> None:
    del kind
    truth = two_dogs()
    truth["annotations"][1]["bbox"] = box
    with pytest.raises(ValueError, match="annotation 2: bbox must be"):
        GroundTruth.from_dict(truth)


def test_a_box_without_width_is_one() -> None:
    """Old converters write such annotations; nothing matches them."""
    found = evaluator()
    found.process(1, [result(1, 1, {**DOG, "bbox": [1.0, 1.0, 0.0, 2.0]}, 0.9)])
    found.process(2, [result(2, 1, DOG, 0.8)])
    assert found.evaluate()["bbox/AP"] == pytest.approx(100 * 51 * 0.5 / 101)
