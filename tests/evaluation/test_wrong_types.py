"""Numbers, texts and lists in each other's place, and keys that are missing: an error that says where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from evaluation_worlds import dataset, image, rect, result

from partglee.evaluation import CocoEvaluator, GroundTruth, PredictionError, score_file

DOG = rect(0, 4, 0, 4)


def evaluator(*, strict: bool = True) -> CocoEvaluator:
    names = [{"id": 1, "name": "dog", "level": "object"}]
    return CocoEvaluator(ground_truth=dataset([image(1)], [(1, 1, DOG)], names), kinds=("segm",), strict=strict)


def write(folder: Path, suffix: str, change: dict[str, Any]) -> Path:
    row = {**result(1, 1, DOG, 0.9, id=1, level="object", name="dog", parent_id=None), **change}
    line = {"file_name": "1.jpg", "image_id": 1, "height": 4, "width": 4, "results": [row]}
    (folder / f"found{suffix}").write_text(json.dumps([row] if suffix == ".json" else line))
    return folder / f"found{suffix}"


@pytest.mark.parametrize(
    ("suffix", "change"),
    [
        (".jsonl", {"name": 3}),
        (".jsonl", {"name": ["dog"]}),
        (".jsonl", {"id": [1]}),
        (".jsonl", {"parent_id": [1]}),
        (".json", {"category_id": [1]}),
        (".json", {"parent_id": [1]}),
    ],
)
def test_the_place_is_told(suffix: str, change: dict[str, Any], tmp_path: Path) -> None:
    where = "line 1 of" if suffix == ".jsonl" else "image 1 of"
    with pytest.raises(ValueError, match=f"^{where} .*: a result has a value of the wrong type"):
        score_file(write(tmp_path, suffix, change), evaluator())


def test_an_image_id_that_is_a_list(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    file.write_text(json.dumps([{**result(1, 1, DOG, 0.9), "image_id": [1]}]))
    with pytest.raises(ValueError, match=r"result 0 of .* has no image_id"):
        score_file(file, evaluator())
    line = {"file_name": "1.jpg", "image_id": [1], "height": 4, "width": 4, "results": []}
    file.with_suffix(".jsonl").write_text(json.dumps(line))
    with pytest.raises(ValueError, match=r"line 1 of .* was not written by"):
        score_file(file.with_suffix(".jsonl"), evaluator())


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@pytest.mark.parametrize("mask", [{"size": [4, 4], "counts": 5}, {"size": 5, "counts": "04"}, {"size": [4, 4]}])
def test_run_lengths_of_other_types(mask: Any, suffix: str, tmp_path: Path) -> None:
    file = write(tmp_path, suffix, {"segmentation": mask})
    with pytest.raises(PredictionError, match=r"^mask unreadable: image 1: run lengths need size and counts"):
        score_file(file, evaluator())
    with pytest.warns(UserWarning, match="1 x mask unreadable"):
        assert score_file(file, evaluator(strict=False))["segm/AP"] == 0


@pytest.mark.parametrize("name", [2147483647, True, {"a": 1}])
def test_a_file_name_that_is_no_text(name: Any, tmp_path: Path) -> None:
    """Found by tests/fuzz."""
    file = tmp_path / "found.jsonl"
    file.write_text(json.dumps({"file_name": name, "height": 4, "width": 4, "results": []}))
    with pytest.raises(ValueError, match=r"line 1 of .*(file_name must be text|was not written by)"):
        score_file(file, evaluator())


# -- annotations -----------------------------------------------------------------------------------------------------

ABSENT = object()
NEEDED = [("images", "id"), ("annotations", "image_id"), ("annotations", "category_id"), ("categories", "id"),
          ("categories", "name")]  # fmt: skip
LISTS = [("images", "neg_category_ids"), ("images", "not_exhaustive_category_ids"), ("categories", "owners")]


@pytest.mark.parametrize(
    ("key", "name", "value"),
    [
        *((*entry, value) for entry in NEEDED for value in (ABSENT, None, 1.5, [1], {})),
        *((*entry, value) for entry in LISTS for value in (5, True, "text", {"a": 1}, [[1]], [None])),
    ],
)
def test_an_entry_of_the_annotations_is_named(key: str, name: str, value: Any, tmp_path: Path) -> None:
    truth = dataset([image(1)], [(1, 1, DOG)], [{"id": 1, "name": "dog"}])
    truth[key][0][name] = value
    if value is ABSENT:
        del truth[key][0][name]
    message = f"entry 0 of '{key}' has no '{name}'" if value is ABSENT else f"entry 0 of '{key}': '{name}' must be"
    with pytest.raises(ValueError, match=f"^{message}"):
        GroundTruth.from_dict(truth)
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    with pytest.raises(ValueError, match=rf"^annotation file '.*truth\.json': {message}"):
        GroundTruth.load(tmp_path / "truth.json")


@pytest.mark.parametrize("content", [[], [{"image_id": 1}], "text", 5, None])
def test_annotations_that_are_no_mapping(content: Any, tmp_path: Path) -> None:
    (tmp_path / "truth.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"truth\.json': annotations must have images, annotations and categories"):
        GroundTruth.load(tmp_path / "truth.json")
