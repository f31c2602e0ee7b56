"""Options may stand anywhere among the words of a list, in every command and tool."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from partglee.basics.arguments import ArgumentParser

ROOT = Path(__file__).resolve().parents[2]


def parse(words: str) -> dict[str, object]:
    parser = ArgumentParser(prog="p")
    commands = parser.add_subparsers(required=True)
    predict = commands.add_parser("predict")
    predict.add_argument("images", nargs="+")
    predict.add_argument("--output")
    run = commands.add_parser("run")
    run.add_argument("recipe")
    run.add_argument("inputs", nargs="+")
    run.add_argument("out")
    run.add_argument("--workers", type=int, required=True)
    train = commands.add_parser("train")
    train.add_argument("--config-file", required=True)
    train.add_argument("overrides", nargs="*")
    return vars(parser.parse_args(words.split()))


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("predict a b --output o", {"images": ["a", "b"], "output": "o"}),
        ("predict a --output o b", {"images": ["a", "b"], "output": "o"}),
        ("predict --output o a b", {"images": ["a", "b"], "output": "o"}),
        ("predict -- -odd.jpg a", {"images": ["-odd.jpg", "a"], "output": None}),
        ("predict --output o -- -odd.jpg", {"images": ["-odd.jpg"], "output": "o"}),
        ("run r a --workers 2 b out", {"recipe": "r", "inputs": ["a", "b"], "out": "out", "workers": 2}),
        ("train K 1 --config-file f K2 -2", {"config_file": "f", "overrides": ["K", "1", "K2", "-2"]}),
        ("train --config-file f", {"config_file": "f", "overrides": []}),
    ],
)
def test_options_between_words(words: str, found: dict[str, object]) -> None:
    assert parse(words) == found


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("predict", "the following arguments are required: images"),
        ("predict a --outpot o b", "unrecognized arguments: --outpot"),
        ("run r --workers 2 out", "the following arguments are required: out"),
        ("run r a --workers x out", "argument --workers: invalid int value: 'x'"),
        ("train K 1", "the following arguments are required: --config-file"),
    ],
)
def test_mistakes_are_told_as_ever(words: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(words)
    assert told in capsys.readouterr().err


def test_help_names_the_default_of_a_word_that_may_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    parser = ArgumentParser(prog="p")
    parser.add_argument("photos", nargs="?", default="here", help="folder (%(default)s)")
    with pytest.raises(SystemExit) as end:
        parser.parse_args(["--help"])
    assert end.value.code == 0
    assert "folder (here)" in capsys.readouterr().out


@pytest.mark.parametrize("script", sorted((ROOT / "datasets").glob("prepare_*.py")), ids=lambda path: path.stem)
def test_help_of_every_preparing_script(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(sys, "argv", [str(script), "--help"])
        runpy.run_path(str(script), run_name="__main__")
    assert end.value.code == 0
    assert "usage: " in capsys.readouterr().out


def test_nothing_has_a_parser_of_its_own() -> None:
    sources = [path for folder in ("partglee", "tools", "projects") for path in (ROOT / folder).rglob("*.py")]
    assert len(sources) > 200
    for path in sources:
        own = "= argparse.ArgumentParser(" in path.read_text(encoding="utf-8")
        assert not own, f"{path}: partglee.basics.arguments has the parser"
