"""Every example of the documents: commands that their parsers take, configuration keys that exist, Python that runs.

Some pages are followed to the letter elsewhere (README.md, docs/extending/, docs/detectron2.md).
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import json
import re
import runpy
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from partglee import cli
from partglee.annotate import read_recipe
from partglee.basics.arguments import ArgumentParser
from partglee.config import find_config, get_cfg, load_config, merge_overrides, recipe_in
from partglee.config.habits import _NOT_NEEDED, _SAME_AS
from partglee.config.values import leaves
from partglee.data import catalog, read_coco
from partglee.data.spec import DatasetSpec
from partglee.engine.recipe import get_recipe
from partglee.evaluation import protocols
from partglee.structures import Prediction

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "docs/*/*.md", "datasets/*.md", "projects/*/README.md")
    for path in ROOT.glob(pattern)
    if path.name != "CHANGELOG.md"
)
TEXT = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}
RUN_ELSEWHERE = ("README.md", "docs/extending/", "docs/detectron2.md")
# commands that are not ours; `make` targets are looked up
FOREIGN = {"make", "pip", "export", "echo", "cd", "cp", "git", "curl", "docker", "http.server"}
LAUNCHERS = {"torchrun", "accelerate"}  # what follows the script is ours
TRAIN = {"partglee train", "tools/train_net.py"}


def blocks(page: str, *languages: str) -> list[str]:
    found = re.findall(r"^ *```(\w*)\n(.*?)^ *```", TEXT[page], re.MULTILINE | re.DOTALL)
    return [text for language, text in found if language in languages]


def commands(page: str) -> Iterator[list[str]]:
    """Words of each command; a line continues behind a backslash, and ends at a comment."""
    for block in blocks(page, "bash", "sh", "console", ""):
        if block.lstrip().startswith(("vocabulary ->", "basics ")):  # diagrams of docs/design.md
            continue
        for line in block.replace("\\\n", " ").splitlines():
            for one in re.split(r"; (?=python )", line):
                words = shlex.split(one, comments=True)
                if words:
                    yield words


COMMANDS = [(page, words) for page in TEXT for words in commands(page)]


class Parsed(Exception):
    """What a command was given; it is not run."""


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], Any]:
    """The command line by the parser of the command itself, which gets no further."""
    whole = ArgumentParser.parse_args

    def stop(self: ArgumentParser, args: Any = None, namespace: Any = None) -> Any:
        raise Parsed(whole(self, args, namespace))

    monkeypatch.setattr(ArgumentParser, "parse_args", stop)

    def run(words: list[str]) -> Any:
        monkeypatch.setattr(sys, "argv", words)
        try:
            if words[0] == "partglee":
                cli.main(words[1:])
            elif words[0].endswith(".py"):
                monkeypatch.syspath_prepend(str((ROOT / words[0]).parent))
                runpy.run_path(str(ROOT / words[0]), run_name="__main__")
            else:
                importlib.import_module(f"{words[0]}.cli").main(words[1:])
        except Parsed as parsed:
            return parsed.args[0]
        except SystemExit as error:
            pytest.fail(f"{words} is refused with status {error.code}")
        raise AssertionError(f"{words} has no parser")

    return run


def test_there_is_something_to_test() -> None:
    assert len(COMMANDS) > 60 and len(PAGES) > 12
    assert sum(len(blocks(page, "python")) for page in TEXT) > 20


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=lambda value: value if isinstance(value, str) else value[0])
def test_commands(page: str, words: list[str], parse: Callable[[list[str]], Any]) -> None:
    if words[0] in LAUNCHERS:
        assert words[0] in ("torchrun", "accelerate")
        words = words[next(place for place, word in enumerate(words) if word.endswith(".py")) :]
    if words[0] in ("python", "bash") or words[0].endswith(".sh"):
        words = words[1 + (words[1] == "-m") :] if words[0] in ("python", "bash") else words
    if words[0] in FOREIGN:
        return _foreign(words)
    if words[0].startswith(("tools/", "datasets/")):
        assert (ROOT / words[0]).is_file(), f"{page}: {words[0]} is not there"
        if words[0].endswith(".sh"):
            return None
    elif words[0] != "partglee" and importlib.util.find_spec(words[0]) is None:
        assert (ROOT / "projects" / words[0]).is_dir(), f"{page}: {words[0]} is no command and no project"
        pytest.skip(f"the project {words[0]} is not installed")
    if "..." in words:  # the reader fills it in
        words = [word for word in words if word != "..."]
        if len(words) < 4:
            return None
    if words[1:2] == ["train"] and words[0] != "partglee":  # of a project: handed on as it is
        words = ["partglee", *words[1:]]
    parsed = parse(words)
    overrides = getattr(parsed, "overrides", None) or []
    config = getattr(parsed, "config_file", None)
    if config and overrides and "NAME" not in str(config) and not getattr(parsed, "imports", None):
        _check_overrides(str(config), overrides)
    return None


def test_a_wrong_example_is_found(parse: Callable[[list[str]], Any]) -> None:
    for words in (["partglee", "predict", "a.jpg", "--outpot", "o"], ["tools/demo.py", "--no-such-flag"]):
        with pytest.raises(pytest.fail.Exception, match="is refused with status 2"):
            parse(words)
    with pytest.raises(ValueError, match=r"unknown key SOLVER\.MAX_ITERS"):
        _check_overrides("toy", ["SOLVER.MAX_ITERS", "2"])
    with pytest.raises(pytest.fail.Exception, match="unexpected keyword"):
        test_python_names_what_exists("a.md", "from partglee import get_cfg\nget_cfg(name=1)")
    with pytest.raises(AttributeError):
        test_python_names_what_exists("a.md", "from partglee.config import no_such_name")


def _foreign(words: list[str]) -> None:
    if words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert words[1] in targets
    listed = ",".join(re.findall(r"partglee\[([\w,]+)\]", " ".join(words)))
    for extra in filter(None, listed.split(",")):
        assert f'"{extra}"' in (ROOT / "setup.py").read_text(encoding="utf-8") or re.search(
            rf"^\s*{extra} = ", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE
        )


def _check_overrides(config: str, overrides: list[str]) -> None:
    path = ROOT / config
    if not path.is_file() and Path(config).suffix and config not in ("my.yaml",):
        pytest.skip(f"{config} is the reader's own")
    file = path if path.is_file() else find_config(config)
    recipe = recipe_in(file)
    if recipe != "partglee" and importlib.util.find_spec(recipe) is None:
        pytest.skip(f"the project {recipe} is not installed")
    if recipe != "partglee":
        importlib.import_module(recipe)
    load_config(file, overrides, defaults=get_recipe(recipe).defaults)


# -- Python ----------------------------------------------------------------------------------------------------------

PYTHON = [(page, text) for page in TEXT for text in blocks(page, "python")]


@pytest.mark.parametrize(("page", "text"), PYTHON, ids=lambda value: value if value in TEXT else str(len(value)))
def test_python_names_what_exists(page: str, text: str) -> None:
    """Imports resolve, and calls of what is imported pass arguments that it takes."""
    tree = ast.parse(text)
    known: dict[str, Any] = {}
    for node in ast.walk(tree):
        for name, owner, attribute in _imports(node):
            if owner.split(".")[0] in ("partglee", "partglee_msda", "rela", "unires", "mglmm"):
                if importlib.util.find_spec(owner.split(".")[0]) is None or "detectron2" in f"{owner}.{attribute}":
                    continue
                module = importlib.import_module(owner)
                known[name] = getattr(module, attribute) if attribute else module
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (target := _resolved(node.func, known)) is not None:
            _takes(target, node, page)


def _imports(node: ast.AST) -> Iterator[tuple[str, str, str]]:
    if isinstance(node, ast.Import):
        for one in node.names:
            yield (one.asname or one.name), one.name, ""
    elif isinstance(node, ast.ImportFrom) and node.module:
        for one in node.names:
            yield (one.asname or one.name), node.module, one.name


def _resolved(node: ast.expr, known: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.Attribute) and (owner := _resolved(node.value, known)) is not None:
        return getattr(owner, node.attr)  # an AttributeError is what is looked for
    return None


def _takes(target: Any, call: ast.Call, page: str) -> None:
    if any(isinstance(one, ast.Starred) for one in call.args) or any(word.arg is None for word in call.keywords):
        return
    words = {str(word.arg): None for word in call.keywords}
    try:
        inspect.signature(target).bind_partial(*[None] * len(call.args), **words)
    except TypeError as error:
        pytest.fail(f"{page}: {ast.unparse(call)}: {error}")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A folder with the files that examples read, and the variables that they start from."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    monkeypatch.setenv("PARTGLEE_DATASETS", str(tmp_path))
    for owner, name in ((catalog, "_DATASETS"), (protocols, "_PROTOCOLS")):
        monkeypatch.setattr(owner, name, dict(getattr(owner, name)))
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [4, 4, 20, 20], "area": 400, "iscrowd": 0}
    square = [[4, 4, 24, 4, 24, 24, 4, 24]]
    truth = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 60, "width": 100}],
        "categories": [{"id": 1, "name": "car"}],
        "annotations": [{**box, "segmentation": square}],
    }
    (tmp_path / "instances_val2017.json").write_text(json.dumps(truth))
    found = Prediction(
        boxes=torch.tensor([[4.0, 4, 24, 24], [5, 20, 9, 24], [19, 20, 23, 24]]), scores=torch.tensor([0.9, 0.8, 0.7]),
        labels=torch.tensor([0, 0, 0]), names=["car", "wheel", "wheel"], level=torch.tensor([0, 1, 1]),
        parent=torch.tensor([-1, 0, 0]), image_size=(60, 100), masks=torch.zeros(3, 60, 100, dtype=torch.bool),
    )  # fmt: skip
    car = Prediction(
        boxes=found.boxes[:1], scores=found.scores[:1], labels=torch.tensor([0]), names=["car"],
        level=torch.tensor([0]), parent=torch.tensor([-1]), image_size=(60, 100), masks=torch.ones(1, 60, 100) > 0,
    )  # fmt: skip
    line = {**json.loads(car.to_json()), "image_id": 1, "file_name": "a.jpg"}
    (tmp_path / "found.jsonl").write_text(json.dumps(line) + "\n")
    return {"prediction": found, "predictions": [(1, car)]}


ALONE = [(page, text) for page, text in PYTHON if not page.startswith((*RUN_ELSEWHERE, "projects/"))]


@pytest.mark.parametrize(("page", "text"), ALONE, ids=lambda value: value if value in TEXT else str(len(value)))
def test_python_runs(page: str, text: str, place: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    if "KeepLargest" in text:  # what is registered is forgotten
        from partglee.annotate import plugs

        for name, value in vars(plugs).items():
            if isinstance(value, dict) and not name.startswith("__"):
                monkeypatch.setattr(plugs, name, dict(value))
    for begin in ('score_file("', "predictor = ExportedPredictor.open("):  # a file that takes minutes to make
        text = text[: text.index(begin)] if begin in text else text
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        exec(compile(text, page, "exec"), place)


# -- configurations and formats ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", TEXT)
def test_yaml(page: str, tmp_path: Path) -> None:
    for text in blocks(page, "yaml"):
        content = yaml.safe_load(text)
        if "stages" in content:
            (tmp_path / "mine.yaml").write_text(text)
            assert [stage.name for stage in read_recipe(str(tmp_path / "mine.yaml")).stages]
        elif content.get("RECIPE", "partglee") == "partglee":
            cfg = get_cfg()
            merge_overrides(cfg, [])
            (tmp_path / "mine.yaml").write_text(text)
            load_config(tmp_path / "mine.yaml")
            for entry in content.get("DATASETS", {}).get("CUSTOM", []):
                assert {key.lower() for key in entry} <= {*inspect.signature(DatasetSpec).parameters, "select"}


def test_the_file_of_the_data_page_is_read(tmp_path: Path) -> None:
    text, *_ = blocks("docs/datasets.md", "json")
    (tmp_path / "a.json").write_text(text)
    spec = DatasetSpec(name="page", annotations=str(tmp_path / "a.json"), images="", reader=read_coco)
    record = read_coco(spec)[0]
    assert len(record.objects) == 1 and [part.parent for part in record.parts] == [0]


KEY = re.compile(r"`((?:MODEL|DATASETS|DATALOADER|INPUT|SOLVER|TEST|CRITERION)(?:\.[A-Z][A-Z_0-9]*)+)")
FLAG = re.compile(r"`[^`\n]*?(?<![\w-])(--[a-z][a-z0-9-]+)[^`\n]*`")
FLAGS_OF_OTHERS = {
    "--nnodes",
    "--nproc-per-node",
    "--rdzv-backend",
    "--rdzv-endpoint",
    "--no-build-isolation",
    "--logdir",
}


@pytest.mark.parametrize("page", [page for page in TEXT if page != "docs/detectron2.md"])
def test_keys_that_are_named_exist(page: str) -> None:
    known = {key for key, _ in leaves(get_cfg())}
    for project in ("rela", "unires", "mglmm"):
        if importlib.util.find_spec(project) is not None:
            importlib.import_module(project)
            known |= {key for key, _ in leaves(get_recipe(project).defaults())}
        elif page.startswith("projects/"):
            pytest.skip(f"the project {project} is not installed")
    sections = {".".join(key.split(".")[:depth]) for key in known for depth in range(1, 5)}
    for key in KEY.findall(TEXT[page]):
        assert key in known | sections | set(_SAME_AS) | set(_NOT_NEEDED), f"{page} names {key}"


@pytest.mark.parametrize("page", TEXT)
def test_flags_that_are_named_exist(page: str) -> None:
    sources = "\n".join(
        path.read_text(encoding="utf-8")
        for folder in ("partglee", "tools", "datasets", "projects", "tests/fuzz")
        for path in (ROOT / folder).rglob("*.py")
    )
    known = set(re.findall(r'"(--[a-z][\w-]+)"', sources)) | FLAGS_OF_OTHERS
    for flag in FLAG.findall(TEXT[page]):
        assert flag in known, f"{page} names {flag}"


@pytest.mark.parametrize("page", TEXT)
def test_names_of_the_package_exist(page: str) -> None:
    for name in re.findall(r"`(partglee(?:\.\w+)+)\b(?!\.safetensors|\.yaml)", TEXT[page]):
        words = name.split(".")
        if words[-1] in ("safetensors", "yaml", "egg") or "detectron2" in words:
            continue
        for depth in range(len(words), 0, -1):
            try:
                owner: Any = importlib.import_module(".".join(words[:depth]))
            except ModuleNotFoundError:
                continue
            for word in words[depth:]:
                owner = getattr(owner, word)  # an AttributeError is what is looked for
            break
