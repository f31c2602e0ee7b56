"""README.md as a newcomer meets it: its first screen, and every example of it run as it is typed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from partglee.cli import main

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
FIRST_SCREEN = 36  # lines


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


COMMANDS = [line.partition("  #")[0].strip() for block in blocks("bash") for line in block.splitlines() if line.strip()]
PARTGLEE = [line for line in COMMANDS if line.startswith("partglee ")]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to write into, with the documents where the examples expect them."""
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_first_screen_has_the_two_commands_and_a_snippet() -> None:
    first = "\n".join(TEXT.splitlines()[:FIRST_SCREEN])
    for said in (
        "make demo",
        "make test",
        "```python\nimport partglee",
        "partglee predict docs/photos/",
        "pip install",
    ):
        assert said in first


def test_every_command_is_known() -> None:
    """Those of make are targets; the rest is run below, or installs."""
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for line in COMMANDS:
        words = line.split()
        assert words[0] in ("make", "partglee", "pip") and (words[0] != "make" or words[1] in targets), line


def test_every_file_that_is_named_is_there() -> None:
    linked = re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", TEXT)
    named = re.findall(r"(?:docs|tools|projects|configs)/[\w/.-]+\w", "\n".join([*COMMANDS, *blocks("python")]))
    assert linked and named
    for path in [*linked, *named]:
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("block", blocks("python"), ids=lambda text: str(len(text)))
def test_python_runs_as_typed(block: str, checkout: Path) -> None:
    done = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, check=False, cwd=checkout,
                          env=_environment())  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "person" in done.stdout and re.search(r"PART \w+ 0\.\d\d \(.*\) object 'person'", done.stdout)
    with Image.open(checkout / "found.jpg") as picture, Image.open(checkout / "docs/photos/officer.jpg") as photo:
        assert picture.size == photo.size


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


@pytest.mark.parametrize("line", PARTGLEE)
def test_commands_run_as_typed(line: str, checkout: Path) -> None:
    words = shlex.split(line)[1:]
    assert main(words) == 0
    if words[0] == "predict":
        output = checkout / (words[words.index("--output") + 1] if "--output" in words else "partglee_output")
        assert (output / "predictions.jsonl").read_text().count("\n") == len(list(output.glob("*.jpg"))) > 0


def test_photos_are_small() -> None:
    photos = list((ROOT / "docs" / "photos").glob("*.jpg"))
    said = (ROOT / "docs" / "photos" / "README.md").read_text(encoding="utf-8")
    for photo in photos:
        assert photo.stat().st_size < 100_000 and f"`{photo.name}`" in said
    assert len(photos) >= 2
