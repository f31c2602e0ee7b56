"""Findings of `partglee data check` in expressions, and pictures of what is sound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from partglee.cli import main
from partglee.data import DatasetSpec, register
from partglee.data.annotations.coco_json import read_coco
from partglee.data.checks.content import validate
from partglee.structures import Prediction
from partglee.visualization.annotations import draw_annotations
from partglee.visualization.expressions import Told, draw_expression, draw_expressions


def content(*said: Any) -> dict[str, Any]:
    """Two dogs and a tail, the second dog a crowd where asked."""
    square = [[2, 2, 9, 2, 9, 9, 2, 9]]
    made = {
        "images": [{"id": 1, "file_name": "a.png", "height": 12, "width": 20, "expressions": list(said)}],
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "dog:tail"}],
        "annotations": [
            {"id": 5, "image_id": 1, "category_id": 1, "bbox": [2, 2, 7, 7], "segmentation": square},
            {"id": 6, "image_id": 1, "category_id": 1, "bbox": [10, 2, 7, 7], "iscrowd": 1},
            {"id": 7, "image_id": 1, "category_id": 2, "bbox": [2, 2, 2, 2], "parent_id": 5},
        ],
    }
    return made


SOUND = (
    {"text": "left", "objects": [5]}, {"text": "both", "objects": [5, 6]}, {"text": "cat", "no_target": True},
    {"text": "tail", "parts": [7]},
)  # fmt: skip


def test_sound_expressions_are_counted() -> None:
    report = validate(content(*SOUND))
    assert not report.errors and not report.warnings, report.text()
    counts = {"expressions": 4, "single target": 2, "multi target": 1, "no target": 1, "part expressions": 1}
    assert report.summary.items() >= counts.items() and "4 expressions" in report.text()
    assert "expressions" not in validate(content()).summary
    twice = {"text": "left", "objects": [5, 5]}
    assert validate(content(twice)).summary["single target"] == 1
    assert read(content(twice)).expressions[0].objects == (0,)


@pytest.mark.parametrize(
    ("said", "rule"),
    [
        ({"text": " ", "objects": [5]}, "expression without a sentence"),
        ({"objects": [5]}, "expression without a sentence"),
        ({"text": "a \ud800", "objects": [5]}, "expression with a NUL, or half of a character"),
        ({"text": "a", "objects": [9]}, "expression whose target is not a usable annotation of its image"),
        ({"text": "a", "objects": [7]}, "expression whose target is of the other level"),
        ({"text": "a", "parts": [5]}, "expression whose target is of the other level"),
        ({"text": "a", "objects": [5], "no_target": True}, "expression whose no_target contradicts its targets"),
        ({"text": "a", "objects": [], "no_target": False}, "expression whose no_target contradicts its targets"),
        ({"text": "a"}, "expression that does not say what it means"),
        ({"text": "a", "objects": 5}, "expression whose targets are no list of annotation ids"),
        ({"text": "a", "objects": None}, "expression whose targets are no list of annotation ids"),
        ({"text": "a", "objects": [5], "parts": None}, "expression whose targets are no list of annotation ids"),
        ({"text": "a", "objects": [True]}, "expression whose targets are no list of annotation ids"),
        ({"text": "a", "no_target": 1}, "expression whose no_target contradicts its targets"),
        ({"text": "a", "objects": [5], "id": "x"}, "expression whose id is no whole number"),
        ("a", "expression that is no mapping"),
    ],
)
def test_errors(said: Any, rule: str) -> None:
    report = validate(content(*SOUND, said))
    assert dict(report.errors) == {rule: 1} and "image 1, expression 4" in report.examples[rule][0]
    with pytest.raises(ValueError, match="image 1: exp"):  # what is an error here, the reader refuses
        read(content(*SOUND, said))


def read(made: dict[str, Any]) -> Any:
    import json
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.json"
        path.write_text(json.dumps(made))
        return read_coco(DatasetSpec("a", str(path), "", reader=read_coco))[0]


@pytest.mark.parametrize(
    ("said", "rule"),
    [
        ({"text": "w " * 19, "objects": [5]}, "expression of more than 18 words, whose end models with 20 tokens"),
        ({"text": "crowd", "objects": [6]}, "expression of crowds alone"),
        ({"text": "🚗🚗", "objects": [5]}, "expression without a letter or digit, which some models cannot read"),
        ({"text": "Left", "objects": [5, 6]}, "sentence that means different things in one image"),
    ],
)
def test_warnings(said: Any, rule: str) -> None:
    report = validate(content(*SOUND, said))
    assert not report.errors and len(report.warnings) == 1 and next(iter(report.warnings)).startswith(rule)


def test_sentences_by_object() -> None:
    old = content(["one"], ["two", "2"])
    report = validate(old)
    assert not report.errors and report.summary["expressions"] == report.summary["single target"] == 3
    report = validate(content(["one"]))
    assert dict(report.errors) == {"lists of sentences for more or fewer objects than there are": 1}
    report = validate(content(["one"], [3]))
    assert dict(report.errors) == {"`expressions` that are no list": 1}
    made = content()
    made["images"][0]["expressions"] = "one"
    assert dict(validate(made).errors) == {"`expressions` that are no list": 1}


def test_what_is_meant_stands_out() -> None:
    pixels = np.full((12, 20, 3), 200, np.uint8)
    row = {"id": 1, "name": "dog", "level": "object", "bbox": [2, 2, 7, 7], "category_id": 1, "score": 1.0}
    one = Prediction.from_coco([row], image_size=(12, 20))
    picture = np.asarray(draw_expression(Told("it", one, False), pixels, scale=10))[:120, :200]
    assert picture[55, 80].mean() > 150 > 100 > picture[100, 150].mean()
    none = Told("the cat", Prediction.empty(image_size=(12, 20)), True)
    dark = np.asarray(draw_expression(none, pixels, scale=10))
    assert dark[:120, :200].max() < 100 and dark[120:].std() > 0  # the caption is below
    sheet = draw_expressions([none] * 3, pixels)
    assert sheet.width > 2 * 480 and sheet.height > 2 * 288
    with pytest.raises(ValueError, match="no expression to draw"):
        draw_expressions([], pixels)


def test_pictures_of_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    made = content(*SOUND)
    made["images"].append({"id": 2, "file_name": "b.png", "height": 12, "width": 20,
                           "expressions": [{"text": "nobody", "no_target": True}]})  # fmt: skip
    for name in ("a.png", "b.png"):
        Image.new("RGB", (20, 12), (200, 90, 90)).save(tmp_path / name)
    assert len(draw_annotations(made, tmp_path, tmp_path / "drawn")) == 2
    four, one = (Image.open(tmp_path / "drawn" / name) for name in ("a_1.jpg", "b_2.jpg"))
    assert four.width > 1.9 * one.width and four.height > 1.9 * one.height
    (tmp_path / "a.json").write_text(json.dumps(made))
    register(DatasetSpec("said_so", str(tmp_path / "a.json"), str(tmp_path), reader=read_coco), replace=True)
    assert main(["data", "check", "said_so", "--draw", str(tmp_path / "check")]) == 0
    out = capsys.readouterr().out
    assert "5 expressions, " in out and "2 no target" in out and "drew 2 images" in out
    assert main(["data", "show", "said_so", "--draw", str(tmp_path / "show")]) == 0
    out = capsys.readouterr().out
    assert "holds: 2 images" in out and "5 expressions" in out and "drew 2 images" in out
    made["images"][0]["expressions"] = [["by"], ["object"]]
    assert len(draw_annotations(made, tmp_path, tmp_path / "old")) == 2
