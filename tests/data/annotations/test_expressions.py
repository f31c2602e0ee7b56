"""`expressions` of an annotation file: several targets, parts, none; and what contradicts itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from coco_files import read, two_images

from partglee.data import Expression
from partglee.data.annotations.expressions import count_expressions, entry_of

SAID: list[dict[str, Any]] = [
    {"text": "the car", "objects": [13], "parts": [], "no_target": False, "id": 5},
    {"text": "its wheel", "parts": [11]},
    {"text": "everything", "objects": [13], "parts": [12, 11, 12]},
    {"text": "the boat", "no_target": True},
    {"text": "no boat either", "objects": [], "parts": []},
]


def test_targets_are_rows(tmp_path: Path) -> None:
    content = two_images()
    content["images"][0]["expressions"] = SAID
    records = read(tmp_path, content)
    record = records[0]
    assert record.expressions == (
        Expression("the car", (0,), (), 5), Expression("its wheel", (), (0,)), Expression("everything", (0,), (1, 0)),
        Expression("the boat"), Expression("no boat either"),
    )  # fmt: skip
    assert [said.no_target for said in record.expressions] == [False] * 3 + [True] * 2
    assert [said.of_parts for said in record.expressions] == [False, True, False, False, False]
    assert [thing.annotation_id for thing in record.targets(record.expressions[2])] == [13, 12, 11]
    assert records[1].expressions == () and records.rows_with_expressions() == [0]
    told = {"single target": 2, "multi target": 1, "no target": 2, "part expressions": 1}
    assert records.counts().items() >= {"expressions": 5, **told}.items()
    again = [entry_of(said, [13], [11, 12]) for said in record.expressions]
    content["images"][0]["expressions"] = again
    assert read(tmp_path, content)[0].expressions == record.expressions and again[3]["no_target"] is True


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"text": " ", "objects": [13]}, r"image 1: expression 1: text must be a sentence, got ' '"),
        ({"objects": [13]}, "expression 1: text must be a sentence, got None"),
        ({"text": "the \ud800 car", "objects": [13]}, r"image 1: expression 1: 'the \\ud800 car' holds a NUL, or half"),
        ({"text": "a"}, r"expression 1 \('a'\) does not say what it means; write"),
        ({"text": "a", "objects": [14]}, r"objects \[14\]: annotation 14 is not of this image"),
        ({"text": "a", "objects": [11]}, r"objects \[11\]: annotation 11 is one of the parts"),
        ({"text": "a", "parts": [13]}, r"parts \[13\]: annotation 13 is one of the objects"),
        ({"text": "a", "objects": 13}, "objects must be a list of annotation ids, got 13"),
        ({"text": "a", "objects": [True]}, "objects must be a list of annotation ids"),
        ({"text": "a", "objects": [13], "no_target": True}, "no_target True contradicts objects"),
        ({"text": "a", "objects": [], "no_target": False}, "no_target False contradicts objects"),
        ({"text": "a", "objects": [], "no_target": "yes"}, "no_target 'yes' contradicts"),
        ({"text": "a", "objects": [13], "id": "x"}, "id must be a whole number"),
        ("a", "a list of mappings"),
        (["a"], "a list of mappings"),
    ],
)
def test_what_does_not_fit(tmp_path: Path, entry: Any, message: str) -> None:
    content = two_images()
    content["images"][0]["expressions"] = [SAID[0], entry]
    with pytest.raises(ValueError, match=message):
        read(tmp_path, content)[0]


def test_a_target_whose_name_is_not_wanted(tmp_path: Path) -> None:
    content = two_images()
    content["images"][1]["expressions"] = [{"text": "it", "objects": [14]}]
    with pytest.raises(ValueError, match=r"image 2: expression 0 .*annotation 14 is left out"):
        read(tmp_path, content, vocabulary="car")[1]


def test_an_expression_says_something() -> None:
    with pytest.raises(ValueError, match="an expression is a sentence, got '  '"):
        Expression("  ")


def test_counts_of_both_forms() -> None:
    assert count_expressions([["a", "b"], [["a"], ["b", "c"]]]) == {"expressions": 5, "single target": 5}
    assert count_expressions([]) == {"expressions": 0}
