"""What training draws from a data set with expressions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from coco_files import read, two_images

from partglee.data.expression_views import Expressions, SingleTargets, rows_with_expressions, single_target_view


def content(*said: list[dict[str, Any]]) -> dict[str, Any]:
    made = two_images()
    made["annotations"].append({**made["annotations"][2], "id": 20})
    for image, entries in zip(made["images"], said, strict=False):
        image["expressions"] = entries
    return made


SAID = [
    {"text": "both", "objects": [13, 20]}, {"text": "one", "objects": [20]}, {"text": "the wheel", "parts": [11]},
    {"text": "two", "objects": [13]}, {"text": "none", "no_target": True}, {"text": "uno", "objects": [20]},
]  # fmt: skip


def test_each_object_that_is_meant_alone_is_a_row(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    records = read(tmp_path, content(SAID, [{"text": "a", "objects": [14]}]))
    with caplog.at_level("INFO"):
        view = single_target_view(records, name="set")
    assert isinstance(view, SingleTargets) and view.skipped == 3
    assert "set: 3 expressions of several targets, parts, crowds or none are skipped" in caplog.text
    told = [[said.text for said in view[row].expressions] for row in range(len(view))]
    assert told == [["two"], ["one", "uno"], ["a"]]
    assert [view[row].image_id for row in range(3)] == [1, 1, 2]
    assert view.size(0) == (60, 100) and view.labels(2) == records.labels(1)


@pytest.mark.parametrize("last", [None, [{"text": "no", "no_target": True}]])
def test_images_of_which_nothing_is_said_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, last: list[dict[str, Any]] | None
) -> None:
    """Beside images with sentences; their objects are none that a sentence means."""
    content_ = content(SAID, *([] if last is None else [last]))
    records = read(tmp_path, content_)
    with caplog.at_level("INFO"):
        view = single_target_view(records, name="set")
    assert [view[row].image_id for row in range(len(view))] == [1, 1]
    assert "set: 1 of 2 images, of which nothing else is said, are left out" in caplog.text


def test_a_data_set_without_expressions_is_as_it_was(tmp_path: Path) -> None:
    records = read(tmp_path, two_images())
    assert single_target_view(records, name="set") is records and rows_with_expressions(records) == []


def test_no_expression_means_one_object(tmp_path: Path) -> None:
    records = read(tmp_path, content([SAID[0], SAID[4]], [{"text": "no", "no_target": True}]))
    with pytest.raises(ValueError, match="'set': none of its 3 expressions means one object alone"):
        single_target_view(records, name="set")


@pytest.mark.parametrize(("most", "rows"), [(1, 7), (2, 4), (4, 3), (100, 2)])
def test_groups_of_expressions(tmp_path: Path, most: int, rows: int) -> None:
    """Every expression comes once in an epoch, whatever the size of a group."""
    records = read(tmp_path, content(SAID, [{"text": "a", "objects": [14]}]))
    view = Expressions(records, most=most)
    told = [[said.text for said in view[row].expressions] for row in range(len(view))]
    assert len(view) == rows and max(map(len, told)) <= most
    assert [text for group in told for text in group] == [entry["text"] for entry in [*SAID, {"text": "a"}]]
    crowd = content([*SAID, {"text": "many", "objects": [20]}], [{"text": "a", "objects": [14]}])
    crowd["annotations"][-1]["iscrowd"] = 1  # "one", "uno" and "many" mean it alone, "both" more
    view = Expressions(read(tmp_path, crowd), most=most)
    told = [said.text for row in range(len(view)) for said in view[row].expressions]
    assert view.skipped == 3 and told == ["both", "the wheel", "two", "none", "a"]
    with pytest.raises(ValueError, match="at least one expression, got 0"):
        Expressions(records, most=0)
