"""With strict=False, what cannot be scored is a miss: leaving it out must never flatter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_worlds import dataset, image, rect, result
from PIL import Image

from partglee.evaluation import (
    EVALUATORS,
    GroundingBoxEvaluator,
    ReferringEvaluator,
    ReferringRules,
    SemanticPartEvaluator,
    build_evaluator,
    score_label_images,
)  # fmt: skip
from partglee.evaluation.instances import InstanceEvaluator

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
HALF = 100 * 51 / 101  # AP of one annotation found of two
DOG, HEAD = rect(0, 4, 0, 4), rect(0, 2, 0, 2)
OPTIONS: dict[str, dict[str, Any]] = {"pascal_part": {"groups": {}}, "partimagenet": {}}
AP = {"federated": "part/mask/AP", "hierarchical": "segm/hAP", "joint": "hierarchy/mask/hAP"}
DETECTION = sorted(name for name, kind in EVALUATORS.items() if issubclass(kind, InstanceEvaluator))


def two_dogs() -> dict[str, Any]:
    """The same dog with its head in two images."""
    rows = [(1, 1, DOG), (1, 2, HEAD, {"parent_id": 1}), (2, 1, DOG), (2, 2, HEAD, {"parent_id": 3})]
    names = [{"id": 1, "name": "dog", "level": "object"}, {"id": 2, "name": "dog:head", "level": "part"}]
    return dataset([image(1), image(2)], rows, names)


def found(key: int, **change: Any) -> list[dict[str, Any]]:
    rows = [result(key, 1, DOG, 0.9, id=1), result(key, 2, HEAD, 0.8, id=2, parent_id=1)]
    return [{**row, **change} for row in rows]


WRONG: dict[str, list[dict[str, Any]] | None] = {
    "not processed": None,
    "empty": [],
    "scores": found(2, score=float("nan")),
    "boxes": found(2, bbox=[0, 0, float("inf"), 2]),
    "masks": found(2, segmentation={"size": [9, 9], "counts": "Q3"}),
    "categories": found(2, category_id=77),
}


@pytest.mark.parametrize("name", DETECTION)
@pytest.mark.parametrize("wrong", WRONG)
def test_images_without_usable_detections_count_as_missed(name: str, wrong: str) -> None:
    evaluator = build_evaluator(name, ground_truth=two_dogs(), strict=False, **OPTIONS.get(name, {}))
    assert isinstance(evaluator, InstanceEvaluator)
    key = AP.get(name, "segm/AP")

    def score(rows: list[dict[str, Any]] | None) -> float:
        evaluator.reset()
        evaluator.process(1, found(1))
        if rows is not None:
            evaluator.process(2, rows)
        return evaluator.evaluate()[key]

    assert score(found(2)) == pytest.approx(100)
    assert score(WRONG[wrong]) == pytest.approx(HALF)


@pytest.mark.parametrize("mode", ["oracle_obj", "pred_all"])
@pytest.mark.parametrize("wrong", ["missing", "size", "class"])
def test_part_maps_by_hand(mode: str, wrong: str) -> None:
    """Class 0: 4 pixels in each of two samples. Class 1: 4 pixels of the second. The first sample is right, the second
    has no usable map: IoU 4/8 and 0/4."""
    first, second = np.full((4, 4), 255), np.full((4, 4), 255)
    first[0], second[0], second[1] = 0, 0, 1
    evaluator = SemanticPartEvaluator(num_classes=2, base_classes=[0], mode=mode, strict=False)
    inside = np.ones((4, 4), bool)
    evaluator.process("a", np.zeros((4, 4), int), first, object_mask=inside)
    if wrong == "missing":
        evaluator.process_missing("b", second)
    else:
        map_ = np.zeros((3, 4), int) if wrong == "size" else np.full((4, 4), 7)
        evaluator.process("b", map_, second, object_mask=inside)
    results = evaluator.evaluate()
    for group in ("A", "B"):
        assert results[f"{group}/mIoU-base"] == pytest.approx(50)
        assert results[f"{group}/mIoU-novel"] == pytest.approx(0)
    assert results["recall/mRecall"] == pytest.approx(25)
    assert results["boundary/mIoU-base"] == pytest.approx(50)
    assert results["num_samples"] == 2
    both = SemanticPartEvaluator(num_classes=2, base_classes=[0], mode=mode, strict=False).compute([evaluator.state()])
    assert {key: value for key, value in results.items() if not key.startswith("issues")} == pytest.approx(
        both, nan_ok=True
    )


@pytest.mark.parametrize("by_object", [False, True])
def test_a_missing_map_of_a_folder(by_object: bool, tmp_path: Path) -> None:
    truth = np.full((4, 4), 255, np.uint8)
    truth[0] = 0
    for folder, labels in (("parts", truth), ("objects", np.zeros((4, 4), np.uint8)), ("found", truth)):
        (tmp_path / folder).mkdir()
        for name in ("a.png", "b.png") if folder != "found" else ("a.png",):
            Image.fromarray(labels).save(tmp_path / folder / name)
    mode, objects = ("oracle_obj", tmp_path / "objects") if by_object else ("pred_all", None)
    evaluator = SemanticPartEvaluator(num_classes=1, mode=mode, strict=False)
    results = score_label_images(tmp_path / "found", evaluator, parts=tmp_path / "parts", objects=objects)
    assert results["B/mIoU"] == pytest.approx(50) and results["issues/unknown image"] == 1


def test_part_pixels_without_a_part_are_told_where_they_do_not_count() -> None:
    truth = np.zeros((4, 4), int)
    map_ = np.zeros((4, 4), int)
    map_[2:] = 1  # no part
    for mode, iou, noted in (("oracle_obj", 100, True), ("pred_all", 50, False)):
        evaluator = SemanticPartEvaluator(num_classes=1, mode=mode)
        evaluator.process("a", map_, truth, object_mask=np.ones((4, 4), bool))
        results = evaluator.evaluate()
        assert results["B/mIoU"] == pytest.approx(iou)
        assert ("issues/pixels without a predicted part" in results) is noted


@pytest.mark.parametrize("rule", ["classifier", "mask", "either"])
def test_expressions_without_a_usable_answer_are_wrong(rule: str) -> None:
    """Two expressions with the same target, two without one; half of the answers are right, half of the wrong size."""
    evaluator = ReferringEvaluator(rules=ReferringRules(no_target=rule), strict=False)
    target, nothing = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    target[:2] = True
    evaluator.process(1, target, target)
    evaluator.process(2, nothing, nothing, says_no_target=True)
    evaluator.process(3, np.zeros((5, 4), bool), target)
    evaluator.process(4, np.zeros((5, 4), bool), nothing, says_no_target=True)
    results = evaluator.evaluate()
    for metric in ("gIoU", "cIoU", "oIoU", "mIoU", "Pr@0.5", "N-acc", "T-acc"):
        assert results[metric] == pytest.approx(50), metric


def test_a_box_that_is_no_box_is_wrong() -> None:
    evaluator = GroundingBoxEvaluator(strict=False)
    box = np.array([0.0, 0, 4, 4])
    evaluator.process(1, box[None], np.ones(1), box)
    evaluator.process(2, np.array([[0, 0, np.nan, 4]]), np.ones(1), box)
    assert evaluator.evaluate()["P@0.5"] == pytest.approx(50)
