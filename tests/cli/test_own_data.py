"""Data sets that a configuration or a file of one's own describes, in every command that takes a name."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

from partglee.basics import plugins
from partglee.cli import main
from partglee.cli.analyze_errors import main as analyse
from partglee.config import config_from_text
from partglee.data import catalog
from partglee.testing import write_toy_dataset

MODULE = """
from partglee.data import DatasetSpec, read_coco, register
register(DatasetSpec(name="by_hand", annotations="street/val.json", images="street", reader=read_coco))
"""
TOY = "MODEL.TEXT.TABLE.FILE"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root of data sets, a configuration that describes one, and a file of Python that registers another."""
    write_toy_dataset(tmp_path / "street", 4, 0, (48, 64), name="val")
    entry = {"NAME": "street_val", "ANNOTATIONS": "street/val.json", "IMAGES": "street", "EVALUATOR": "joint"}
    (tmp_path / "hand_made.py").write_text(MODULE)
    datasets = {"CUSTOM": [entry], "IMPORTS": [str(tmp_path / "hand_made.py")]}
    (tmp_path / "street.yaml").write_text(yaml.safe_dump({"_BASE_": "toy.yaml", "DATASETS": datasets}))
    rows = json.loads((tmp_path / "street" / "val.json").read_text())["annotations"]
    keys = ("image_id", "category_id", "bbox", "segmentation")
    found = [{key: row[key] for key in keys} | {"score": 0.9} for row in rows]
    (tmp_path / "found.json").write_text(json.dumps(found))
    monkeypatch.setenv("PARTGLEE_DATASETS", str(tmp_path))
    monkeypatch.setattr(catalog, "_DATASETS", dict(catalog._DATASETS))
    monkeypatch.setattr(catalog, "_custom", set())
    monkeypatch.setattr(plugins, "_loaded", set())
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("hand_made", None)


@pytest.mark.parametrize("name", ["street_val", "by_hand"])
def test_every_command_knows_what_a_configuration_describes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    config = ["--config-file", "street.yaml"]
    assert main(["data", "list"]) == 0
    assert name not in capsys.readouterr().out, "nothing is known before"
    assert main(["data", "list", *config]) == 0
    assert name in capsys.readouterr().out
    assert main(["data", "show", name, "--no-draw", *config]) == 0
    assert "4 images; images with each name" in capsys.readouterr().out
    assert main(["data", "check", name, "--no-draw", *config]) == 0
    assert "0 errors" in capsys.readouterr().out
    assert main(["eval", "--predictions", "found.json", "--dataset", name, "--evaluator", "joint", *config]) == 0
    assert "100.00" in capsys.readouterr().out
    arguments = ["--predictions", "found.json", "--dataset", name, "--output", "report", "--no-pictures", *config]
    assert analyse(arguments) == 0
    assert Path("report/report.md").is_file()


def test_a_file_of_python_is_imported_by_its_path(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "show", "by_hand", "--no-draw", "--import", "hand_made.py"]) == 0
    assert main(["data", "show", "by_hand", "--no-draw", "--import", "hand_mad.py"]) == 2
    assert "--import hand_mad.py: the file is not there" in capsys.readouterr().err
    (place / "my-sets.py").write_text(MODULE)
    assert main(["data", "list", "--import", "my-sets.py"]) == 2
    assert "has a name that is none of a module" in capsys.readouterr().err
    (place / "other").mkdir()
    (place / "other" / "hand_made.py").write_text(MODULE)
    assert main(["data", "list", "--import", "other/hand_made.py"]) == 2
    assert "a module 'hand_made' is loaded already" in capsys.readouterr().err


def test_a_bad_configuration_is_one_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "bad.yaml").write_text("DATASETS: {CUSTOM: [{NAME: a, ANOTATIONS: b}]}")
    assert main(["data", "show", "a", "--config-file", "bad.yaml"]) == 2
    assert "unknown field ANOTATIONS; the nearest known one is ANNOTATIONS" in capsys.readouterr().err
    assert main(["data", "show", "a", "--config-file", "joint_r5"]) == 2
    assert "did you mean joint_r50" in capsys.readouterr().err


def test_the_whole_configuration_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "--config-file", "street.yaml", "--dump-config"]
    assert main([*command, "SOLVER.BATCH_SIZE", "3"]) == 0
    text = capsys.readouterr().out
    cfg = config_from_text(text)
    assert cfg.SOLVER.BATCH_SIZE == 3 and cfg.DATASETS.CUSTOM[0]["NAME"] == "street_val"
    assert cfg.dump() == text, "it can be used as a file"
    assert not Path("output").exists() and "hand_made" not in sys.modules
    assert main([*command, "SOLVER.BATCH_SIZE", "0"]) == 2, "values are checked"


def test_names_that_weights_lack_are_all_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = {
        "images": [{"id": 1, "file_name": "val/1.png", "height": 48, "width": 64}],
        "categories": [
            {"id": 1, "name": "car", "level": "object"}, {"id": 2, "name": "automobile", "level": "object"},
            {"id": 3, "name": "qwxzzk", "level": "object"}, {"id": 4, "name": "car:wheel", "level": "part"},
            {"id": 5, "name": "car:vrrghh", "level": "part"},
        ],
        "annotations": [{"id": k, "image_id": 1, "category_id": k, "bbox": [1, 1, 9, 9]} for k in range(1, 6)],
    }  # fmt: skip
    (place / "names.json").write_text(json.dumps(content))
    assert main(["data", "check", "names.json", "--no-draw", "--weights", "partglee-tiny"]) == 1
    said = capsys.readouterr().out
    assert "names for partglee-tiny: 2 of 5 are read as they are written" in said
    assert "lacks 'automobile' as 'car'" in said
    assert "lacks 'qwxzzk', left out; nearest:" in said and "lacks 'car: vrrghh', left out; nearest:" in said
