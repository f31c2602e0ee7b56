"""Rows that are checked by column give what rows that are looked at one by one give: numbers, messages and counts."""

from __future__ import annotations

import copy
import json
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_worlds import random_world

from partglee.evaluation import (
    CocoEvaluator,
    HierarchicalEvaluator,
    LvisEvaluator,
    PacoEvaluator,
    detection_buffer,
    prediction_files,
    result_files,
    score_file,
)
from partglee.evaluation.prediction_files import read_coco_results
from partglee.evaluation.result_rows import ResultRows, plain_rows, plain_rows_of_json

WORLD = [160, 200]  # height and width of the images of random_world
ODD: list[Any] = [
    None, True, False, 0, 1, -1, 0.5, -0.0, 7.0, 1e308, float("nan"), float("inf"), -float("inf"), 2**31, 2**53 + 1,
    2**63 - 1, 2**63, -(2**63), 2**64, 10**400, "", "0", "1", "nan", "\ud800", "é", [], {}, [[]], [None], {"a": 1},
    [0] * 6, [1, 2, 3, 4], [1.5, 2, 3, -4], [[10, 10, 50, 10, 50, 60, 10, 60]], {"size": WORLD, "counts": [32000]},
    {"size": WORLD, "counts": "PPP"}, {"size": WORLD, "counts": ""}, {"size": WORLD, "counts": "0é"},
    {"size": WORLD, "counts": [5]}, {"size": WORLD[::-1], "counts": "P"}, {"size": [160.0, 200.0], "counts": "PPo00"},
    {"counts": "1"}, {"size": WORLD}, {"size": 160, "counts": "1"}, {"size": [160], "counts": "1"},
    {"size": [True, 200], "counts": "1"}, {"size": [160, 10**400], "counts": "1"},
]  # fmt: skip
KEYS = ("image_id", "category_id", "score", "bbox", "segmentation", "id", "parent_id", "extra")


def damage(rng: random.Random, rows: list[Any]) -> None:
    """One to three places of the rows changed."""
    for _ in range(rng.choice([1, 1, 2, 3])):
        entry = rows[rng.randrange(len(rows))]
        mask, box = entry.get("segmentation"), entry.get("bbox")
        kind = rng.randrange(9)
        if kind < 3:
            entry[rng.choice(KEYS)] = copy.deepcopy(rng.choice(ODD))
        elif kind == 3:
            entry.pop(rng.choice(KEYS), None)
        elif kind == 4:
            rows.insert(rng.randrange(len(rows)), copy.deepcopy(entry))
        elif kind == 5 and isinstance(box, list) and box:
            box[rng.randrange(len(box))] = copy.deepcopy(rng.choice(ODD))
        elif kind == 6 and isinstance(mask, dict):
            mask[rng.choice(["size", "counts"])] = copy.deepcopy(rng.choice(ODD))
        elif kind == 7 and isinstance(mask, dict) and mask.get("counts") and isinstance(mask["counts"], str):
            text, at = mask["counts"], rng.randrange(len(mask["counts"]))
            other = chr(rng.randrange(40, 120))
            mask["counts"] = rng.choice([text[:at], text[:at] + other + text[at + 1 :], text + "0", text[at + 1 :]])
        elif kind == 8:
            entry["image_id"] = rng.choice([999, "1", 1.0, 1.5, True, 2**70])


def world(seed: int, *, lvis: bool) -> tuple[random.Random, dict[str, Any], list[Any]]:
    """A random world whose rows have ids and parents, boxes, masks or both, and here and there some damage."""
    rng = random.Random(seed)
    truth, rows = random_world(seed, images=rng.randrange(1, 7), lvis=lvis)
    for row, category in enumerate(truth["categories"]):
        category["level"] = "part" if row % 2 else "object"
    for row, entry in enumerate(truth["annotations"]):
        if row and entry["category_id"] % 2 == 0:
            entry["parent_id"] = rng.choice(truth["annotations"][:row])["id"]
    if rng.random() < 0.5:
        for row, entry in enumerate(rows):
            entry["id"] = row
            entry["parent_id"] = rng.randrange(len(rows) + 1) if rng.random() < 0.4 else None
    left_out = rng.choice([None, None, "bbox", "segmentation"])
    for entry in rows:
        if left_out and rng.random() < 0.9:
            entry.pop(left_out)
    for entry in truth["images"] if rng.random() < 0.1 else ():
        entry.pop("height")
    if rng.random() < 0.5:
        rng.shuffle(rows)
    if rows and rng.random() < 0.8:
        damage(rng, rows)
    return rng, truth, rows


def outcome(score: Callable[[], dict[str, float]]) -> tuple[Any, list[str]]:
    """Numbers or the error, and the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            told: Any = {key: repr(float(value)) for key, value in score().items()}
        except (ValueError, TypeError, AttributeError) as error:
            told = f"{type(error).__name__}: {error}"
    return told, [str(warning.message) for warning in caught]


@pytest.mark.parametrize("seed", range(40))
def test_damage_of_any_kind(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lvis = seed % 2 == 1
    rng, truth, rows = world(seed, lvis=lvis)
    file = tmp_path / "found.json"
    text = json.dumps(rows, indent=rng.choice([None, 1]), ensure_ascii=rng.random() < 0.8)
    data = text.encode("utf-8", "surrogatepass")
    if rng.random() < 0.2:
        at = rng.randrange(len(data))
        data = data[:at] + bytes([rng.randrange(256)]) * rng.randrange(2) + data[at + 1 :]
    file.write_bytes(data)
    monkeypatch.setattr(result_files, "_PIECE", rng.choice([30, 700, 5000]))
    for kind in (CocoEvaluator, PacoEvaluator if lvis else HierarchicalEvaluator):
        kinds = rng.choice([("bbox",), ("segm",), ("bbox", "segm")])
        for strict in (True, False):

            def from_file() -> dict[str, float]:
                return score_file(file, kind(ground_truth=copy.deepcopy(truth), kinds=kinds, strict=strict))  # noqa: B023

            def fed() -> dict[str, float]:
                evaluator = kind(ground_truth=copy.deepcopy(truth), kinds=kinds, strict=strict)  # noqa: B023
                for key in evaluator.ground_truth.image_ids.tolist():
                    evaluator.process(key, [entry for entry in rows if entry.get("image_id") == key])
                return evaluator.evaluate()

            by_column = outcome(from_file), outcome(fed)
            with monkeypatch.context() as slow:
                slow.setattr(prediction_files, "read_image_rows", lambda path: None)
                slow.setattr(detection_buffer, "plain_rows", lambda rows: None)
                one_by_one = outcome(from_file), outcome(fed)
            assert by_column == one_by_one


def test_sound_files_are_read_by_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the test above would compare the slow way with itself."""
    truth, rows = random_world(3, lvis=True)
    rows[0]["other"] = [{"a": 1}, {"b": "},{"}]
    file = tmp_path / "found.json"
    for indent, piece in ((None, 200), (None, 1 << 20), (2, 3000)):
        file.write_text(json.dumps(rows, indent=indent))
        monkeypatch.setattr(result_files, "_PIECE", piece)
        found = result_files.read_image_rows(file)
        assert found is not None
        whole = dict(found)
        assert all(isinstance(own, ResultRows) for own in whole.values())
        expected = [(key, [_known(row) for row in own]) for key, own in read_coco_results(file)]
        assert [(key, [dict(row) for row in own]) for key, own in whole.items()] == expected
    monkeypatch.setattr(detection_buffer.DetectionBuffer, "_one_by_one", None)
    score_file(file, LvisEvaluator(ground_truth=truth))


def _known(row: dict[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in ("category_id", "score", "bbox", "segmentation") if key in row}


def test_one_damaged_row_leaves_the_other_images_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth, rows = random_world(5)
    wrong = next(place for place, row in enumerate(rows) if row["image_id"] == rows[-1]["image_id"])
    rows[wrong]["score"] = None
    (tmp_path / "found.json").write_text(json.dumps(rows))
    monkeypatch.setattr(result_files, "_PIECE", 400)
    looked_at: list[int] = []
    one_by_one = detection_buffer.DetectionBuffer._one_by_one

    def look(self: Any, image: int, image_id: int, own: Any) -> Any:
        looked_at.append(image_id)
        return one_by_one(self, image, image_id, own)

    monkeypatch.setattr(detection_buffer.DetectionBuffer, "_one_by_one", look)
    with pytest.warns(UserWarning, match="score not finite"):
        score_file(tmp_path / "found.json", CocoEvaluator(ground_truth=truth, strict=False))
    assert rows[-1]["image_id"] in looked_at and len(looked_at) <= 2


@pytest.mark.parametrize("value", ODD)
@pytest.mark.parametrize("key", ["score", "bbox", "category_id", "segmentation", "id"])
def test_plain_rows_say_what_was_given(key: str, value: Any) -> None:
    row = {"category_id": 1, "score": 0.5, "bbox": [1.0, 2.0, 3.0, 4.0], key: value}
    for found in (plain_rows([row]), _of_json(row)):
        if found is not None:
            (again,) = found
            given = {**row, "score": float(row["score"])}
            assert again == {k: v for k, v in given.items() if v is not None} and np.isfinite(found.score).all()


def _of_json(row: dict[str, Any]) -> ResultRows | None:
    text = json.dumps([{**row, "image_id": 1}]).encode("utf-8", "surrogatepass")
    found = plain_rows_of_json(text)
    return None if found is None else found[1]


def test_an_evaluator_with_a_way_of_its_own_gets_the_rows_of_the_file(tmp_path: Path) -> None:
    truth, rows = random_world(0)
    (tmp_path / "found.json").write_text(json.dumps(rows))
    seen: list[Any] = []

    class Own(CocoEvaluator):
        def process(self, image_id: int, detections: Any) -> None:
            seen.extend(detections)
            super().process(image_id, detections)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        score_file(tmp_path / "found.json", Own(ground_truth=truth))
    assert sorted(map(json.dumps, seen)) == sorted(map(json.dumps, rows))
