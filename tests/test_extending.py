"""docs/extending/*.md, followed to the letter: their files in an empty folder, their commands, and how many files."""

from __future__ import annotations

import contextlib
import importlib
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from safetensors.torch import load_file

from partglee.basics import plugins
from partglee.cli import main
from partglee.data import catalog
from partglee.engine import recipe
from partglee.evaluation import protocols
from partglee.text import BACKENDS

PAGES = Path(__file__).resolve().parents[1] / "docs" / "extending"
MODULES = ("garage", "counting", "letters", "halves", "presence")
TABLES: tuple[tuple[object, str], ...] = (  # where what is registered is kept
    (catalog, "_DATASETS"), (protocols, "_PROTOCOLS"), (recipe, "_RECIPES"), (plugins, "_loaded"),
)  # fmt: skip


class Page:
    """One page: its files by name, its commands in order."""

    def __init__(self, text: str) -> None:
        self.files: dict[str, str] = dict(re.findall(r"^`([\w.]+)`\n```\w+\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
        scripts = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        self.commands = [line for script in scripts for line in script.replace("\\\n", " ").splitlines()]


FOUND = {page.stem: Page(page.read_text(encoding="utf-8")) for page in sorted(PAGES.glob("*.md"))}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to work in; what is registered there is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PARTGLEE_DATASETS", ".")
    plugins.load_plugins()  # else projects would register inside a test, be forgotten, and never be loaded again
    recipe.get_recipe("partglee")  # the library's own registers itself when it is first asked for
    for owner, name in TABLES:
        monkeypatch.setattr(owner, name, type(getattr(owner, name))(getattr(owner, name)))
    before = dict(BACKENDS)
    yield tmp_path
    BACKENDS.clear()
    BACKENDS.update(before)
    for name in MODULES:
        sys.modules.pop(name, None)


def write(folder: Path, *pages: str) -> None:
    """The files of some pages."""
    for name in pages:
        for file, text in FOUND[name].files.items():
            (folder / file).write_text(text, encoding="utf-8")


def follow(folder: Path, *pages: str) -> None:
    """Write the files of some pages, then run the commands of the last."""
    write(folder, *pages)
    for command in FOUND[pages[-1]].commands:
        words = shlex.split(command)
        if words[0] == "partglee":
            assert main(words[1:]) == 0, command
        elif words[0] == "echo":
            assert words[2] == ">", command
            (folder / words[3]).write_text(words[1])
        else:
            assert words == ["export", "PARTGLEE_DATASETS=.", "PYTHONPATH=."], command


def test_what_each_takes() -> None:
    """Files of one's own; of the library none is touched, since everything here runs from an empty folder."""
    assert {name: sorted(page.files) for name, page in FOUND.items()} == {
        "data_set": ["garage.py"],
        "evaluator": ["counting.py"],
        "text_backend": ["letters.py"],
        "backbone": ["halves.py"],
        "project": ["presence.py", "presence.yaml", "setup.py"],
    }
    for page in FOUND.values():
        assert len(page.commands) >= 3 and page.commands[1].startswith("partglee data toy"), "each begins by itself"


def test_a_data_set(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    follow(folder, "data_set")
    assert "2 images" in capsys.readouterr().out
    assert catalog.get_dataset("garage_val").read().vocabulary.object_names[0] == "car"


def test_an_evaluator(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    follow(folder, "evaluator")
    first, second = (len(record.objects) for record in catalog.get_dataset("toy_val").read())
    expected = (abs(1 - first) + second) / 2
    assert re.search(rf"count_error\s+object\s+{expected:.3f}", capsys.readouterr().out)


def test_a_text_backend(folder: Path) -> None:
    follow(folder, "text_backend")
    assert (folder / "letters_run" / "model_final.safetensors").is_file()


def test_a_backbone(folder: Path) -> None:
    follow(folder, "text_backend", "backbone")
    assert "convnext_atto" in (folder / "convnext_run" / "config.yaml").read_text()
    weights = load_file(folder / "halves_run" / "model_final.safetensors")
    widths = [weights[f"backbone.body.stages.{stage}.0.weight"].shape[0] for stage in range(5)]
    assert widths == [12, 24, 48, 96, 192], "the width that its option says"


def test_a_model(folder: Path) -> None:
    follow(folder, "text_backend", "project")
    lines = [json.loads(line) for line in (folder / "presence_run" / "metrics.jsonl").read_text().splitlines()]
    losses = {line["iteration"]: value for line in lines for key, value in line.items() if "cross_entropy" in key}
    assert sorted(losses) == [1, 2, 3, 4, 5, 6], "four steps, then two after resuming"
    right = [line["eval/toy_val/right"] for line in lines if "eval/toy_val/right" in line]
    assert len(right) >= 3 and all(0 <= value <= 1 for value in right)


def test_an_installed_project_needs_no_import(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry points of its setup.py, as pip would write them, are found."""
    write(folder, "text_backend", "project")
    subprocess.run([sys.executable, "setup.py", "-q", "egg_info"], check=True, capture_output=True)
    importlib.invalidate_caches()
    with contextlib.suppress(KeyError):
        del sys.modules["presence"]
    plugins.load_plugins()
    module: ModuleType = sys.modules["presence"]
    assert recipe.get_recipe("presence") is module.RECIPE and "letters" in BACKENDS
