"""Projects that add to the library: named with --import, or announced by their installation."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from partglee.basics import plugins
from partglee.cli import main

PROJECT = """
from partglee.config import get_cfg
from partglee.config.values import POSITIVE
from partglee.data import DatasetSpec, register
from partglee.data.annotations.coco_json import read_coco
from partglee.engine.recipe import Recipe, register_recipe


def defaults():
    cfg = get_cfg()
    cfg.RECIPE = "guest"
    cfg.MODEL.GUEST = 1.0
    return cfg


def set_up():
    register(DatasetSpec(name="guest_set", annotations="guest.json", images="guest", reader=read_coco), replace=True)


def no_model(cfg, model=None):
    raise ValueError("the guest was asked")


set_up()
register_recipe(
    Recipe(name="guest", defaults=defaults, build_model=no_model, build_step=no_model, ranges={"MODEL.GUEST": POSITIVE})
)
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of a project on the path, with a configuration that stands on one of the zoo."""
    (tmp_path / "guest_project.py").write_text(PROJECT)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "guest.yaml").write_text("_BASE_: toy.yaml\nRECIPE: guest\nMODEL: {GUEST: 2.0}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(plugins, "_loaded", set())
    monkeypatch.setattr("partglee.engine.recipe._RECIPES", {})
    monkeypatch.setattr("partglee.data.catalog._DATASETS", {})
    yield tmp_path
    sys.modules.pop("guest_project", None)


def train(project: Path, *more: str) -> int:
    return main(["train", "--config-file", str(project / "configs" / "guest.yaml"), "--num-gpus", "0", *more])


def test_a_recipe_by_import(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quiet = ["DATASETS.TRAIN", "guest_set", "DATASETS.TEST", "[]", "TEST.BEST", "", "OUTPUT_DIR", str(project / "out")]
    assert train(project, *quiet) == 2
    assert "unknown recipe 'guest'" in capsys.readouterr().err
    assert train(project, "--import", "guest_project", *quiet, "MODEL.GUEST", "0") == 2
    assert "MODEL.GUEST must be more than 0, got 0.0" in capsys.readouterr().err
    assert train(project, "--import", "guest_project", *quiet) == 2  # its data set is known, and is not there
    assert "annotations of data set 'guest_set'" in capsys.readouterr().err
    (project / "guest").mkdir()
    (project / "guest.json").write_text('{"images": [], "annotations": [], "categories": []}')


def test_what_is_imported_is_there_for_other_commands(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "list", "--import", "guest_project"]) == 0
    assert "guest_set" in capsys.readouterr().out
    predictions = project / "x.jsonl"
    predictions.write_text("{}\n")
    assert main(["eval", "--import", "guest_project", "--predictions", str(predictions), "--dataset", "guest_set"]) == 2
    assert "guest.json" in capsys.readouterr().err
    assert main(["predict", "--import", "lost_project", "x.jpg", "--vocabulary", "a", "--output", "out"]) == 2
    said = capsys.readouterr().err
    assert "--import lost_project: No module named 'lost_project'; install the project, or put its folder on" in said


def test_an_installed_project_announces_itself(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = [
        EntryPoint("module", "guest_project", plugins.GROUP),
        EntryPoint("function", "guest_project:set_up", plugins.GROUP),
        EntryPoint("broken", "no_such_project", plugins.GROUP),
    ]
    monkeypatch.setattr(plugins, "entry_points", lambda group: EntryPoints(entries).select(group=group))
    with pytest.warns(UserWarning, match="plug-in 'broken' .no_such_project. is left out"):
        assert main(["data", "list"]) == 0
    assert "guest_set" in capsys.readouterr().out
    assert main(["data", "list"]) == 0  # once in a process
