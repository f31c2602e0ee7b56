"""docs/detectron2.md, followed to the letter: each example as it stands there."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from partglee.cli import main

PAGE = Path(__file__).resolve().parents[3] / "docs" / "detectron2.md"


def sections() -> dict[str, list[tuple[str, str, str]]]:
    """Heading -> (file name or "", language, text) of each example, in order."""
    head, *rest = re.split(r"^## (.*)\n", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert "```" not in head
    example = re.compile(r"(?:^`([\w.]+)`\n)?^```(python|bash)\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return {name: example.findall(text) for name, text in zip(rest[::2], rest[1::2], strict=True)}


SECTIONS = sections()


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of data sets after the page's first command."""
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PARTGLEE_DATASETS", ".")
        ((_, language, command),) = SECTIONS["Installing detectron2"]
        assert language == "bash" and main(shlex.split(command)[1:]) == 0
    return folder


@pytest.fixture
def folder(scenes: Path, monkeypatch: pytest.MonkeyPatch, catalogs: None) -> Iterator[Path]:
    from partglee.basics import plugins

    monkeypatch.chdir(scenes)
    monkeypatch.syspath_prepend(scenes)
    monkeypatch.setenv("PARTGLEE_DATASETS", ".")
    monkeypatch.setattr(plugins, "_loaded", type(plugins._loaded)(plugins._loaded))
    yield scenes
    sys.modules.pop("my_sets", None)


def follow(name: str, folder: Path) -> None:
    for file, language, text in SECTIONS[name]:
        if file:
            (folder / file).write_text(text, encoding="utf-8")
        elif language == "python":
            assert len(text.strip().splitlines()) <= 24, "an example is short"
            exec(compile(text, f"{PAGE.name}: {name}", "exec"), {})
        else:
            for command in text.strip().splitlines():
                assert main(shlex.split(command)[1:]) == 0, command


@pytest.mark.parametrize("name", ["Predict", "Evaluate", "Lazy configurations", "OV-PARTS"])
def test_examples_stand_alone(name: str, folder: Path) -> None:
    assert SECTIONS[name]
    follow(name, folder)


def test_their_sets_in_our_commands(folder: Path) -> None:
    follow("Data sets of detectron2 in our commands", folder)


def test_train_and_back(folder: Path) -> None:
    follow("Train", folder)
    assert (folder / "d2_run" / "model_final.pth").is_file()
    follow("Weights", folder)
    from partglee.engine import Predictor

    assert Predictor.from_pretrained(folder / "trained.safetensors", device="cpu").short_side > 0


def test_every_section_with_examples_is_tested() -> None:
    tested = {"Installing detectron2", "Predict", "Evaluate", "Lazy configurations", "OV-PARTS", "Train", "Weights"}
    assert {name for name, examples in SECTIONS.items() if examples} == {
        *tested, "Data sets of detectron2 in our commands",
    }  # fmt: skip
