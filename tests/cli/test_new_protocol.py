"""A new way to score predictions is one file: `partglee eval`, `--eval-only`, training and its checks know it then."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from training_samples import SMALL

from partglee.checkpoint import read_metadata
from partglee.cli import main
from partglee.evaluation import protocols
from partglee.testing import TOY_VOCABULARY, write_name_table, write_toy_dataset

MODULE = '''
"""The share of images in which something is found."""

import json

from partglee.evaluation import Protocol, register_protocol
from partglee.evaluation.protocols import DETECTIONS


def score(file, records, options):
    above = options.arguments.get("above", 0.0)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    answered = sum(any(row["score"] >= above for row in line["results"]) for line in lines)
    return {"images/answered": 100.0 * answered / len(records)}


register_protocol(
    Protocol(name="answered", reads=DETECTIONS, score=score, metrics=("images/answered",), title="answered images")
)
'''


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Photos with annotations and names, and a folder with the one file of the protocol."""
    write_toy_dataset(tmp_path / "my_parts", 6, 3, (64, 96))
    names = [*TOY_VOCABULARY.object_prompts, *TOY_VOCABULARY.part_prompts]
    write_name_table(tmp_path / "names.npz", names, width=16)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "answered_images.py").write_text(MODULE)
    monkeypatch.setattr(protocols, "_PROTOCOLS", dict(protocols._PROTOCOLS))
    monkeypatch.syspath_prepend(tmp_path / "mine")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setitem(sys.modules, "answered_images", None)  # whatever is there is put back afterwards
    del sys.modules["answered_images"]
    return tmp_path


def train(place: Path, *more: Any) -> int:
    data = [
        {"NAME": "my_answered", "ANNOTATIONS": str(place / "my_parts" / "annotations.json"),
         "IMAGES": str(place / "my_parts"), "EVALUATOR": "answered"}
    ]  # fmt: skip
    values = [
        *SMALL, "DATASETS.CUSTOM", data, "DATASETS.TRAIN", ["my_answered"], "DATASETS.TEST", ["my_answered"],
        "MODEL.TEXT.TABLE.FILE", place / "names.npz", "OUTPUT_DIR", place / "run", "SOLVER.MAX_ITER", 2,
        "MODEL.WEIGHTS", "", "INPUT.TRAIN.SIZE", [64, 64], "INPUT.TEST.SHORT_SIDE", 64, "INPUT.TEST.MAX_SIDE", 64,
    ]  # fmt: skip
    command = ["train", "--import", "answered_images", "--config-file", "finetune_example", "--num-gpus", "0"]
    return main([*command, *map(str, [*values, *more])])


def test_one_file_is_a_protocol(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    best = ["TEST.BEST", "my_answered/images/answered"]
    assert train(place, "TEST.BEST", "my_answered/images/answer") == 2
    assert "did you mean 'my_answered/images/answered'" in capsys.readouterr().err
    assert train(place, *best) == 0
    metadata = read_metadata(place / "run" / "model_best.safetensors")
    assert (metadata["metric"], metadata["value"]) == ("my_answered/images/answered", "100.0")
    # The same numbers by --eval-only, and by `partglee eval` of the file that it wrote.
    weights = ["MODEL.WEIGHTS", place / "run" / "model_best.safetensors", "OUTPUT_DIR", place / "again"]
    assert train(place, *weights, "--eval-only") == 0
    assert "answered" in capsys.readouterr().out
    file = place / "again" / "predictions" / "my_answered.jsonl"
    command = [
        "eval", "--import", "answered_images", "--predictions", str(file), "--json", str(place / "numbers.json"),
        "--annotations", str(place / "my_parts" / "annotations.json"), "--evaluator", "answered",
    ]  # fmt: skip
    assert main(command) == 0
    assert "annotations: answered images" in capsys.readouterr().out
    assert json.loads((place / "numbers.json").read_text())["results"] == {"images/answered": 100.0}
    assert main([*command, "--option", "above=1.1"]) == 0
    assert json.loads((place / "numbers.json").read_text())["results"] == {"images/answered": 0.0}
    assert [path.name for path in (place / "mine").iterdir()] == ["answered_images.py"]


def test_without_the_import_it_is_unknown(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = place / "found.json"
    file.write_text("[]")
    annotations = str(place / "my_parts" / "annotations.json")
    command = ["eval", "--predictions", str(file), "--annotations", annotations, "--evaluator", "answered"]
    assert main(command) == 2
    assert "no evaluator 'answered'" in capsys.readouterr().err
    assert main([*command, "--import", "answered_image"]) == 2
    assert "--import answered_image" in capsys.readouterr().err
