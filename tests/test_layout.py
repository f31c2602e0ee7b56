"""The package's shape: who imports whom, what projects may use, the public names, files of a size to read."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "partglee"
BELOW_ENGINE = {
    "ops", "structures", "config", "layers", "text", "modeling", "criterion", "data", "evaluation", "visualization",
    "checkpoint",
}  # fmt: skip
ABOVE_ENGINE = {"annotate", "export", "serve", "integrations", "testing"}
ALLOWED = {  # the import table of docs/design.md; `basics` is left out, everything may import it
    "basics": set(),
    "ops": set(),
    "structures": {"ops"},
    "config": {"ops"},
    "layers": {"ops"},
    "text": {"layers", "structures", "config"},
    "modeling": {"layers", "text", "structures", "ops", "config"},
    "criterion": {"structures", "ops", "config"},
    "data": {"structures", "ops", "config"},
    "evaluation": {"structures", "ops", "data"},
    "visualization": {"structures", "ops", "data"},
    "checkpoint": set(),
    "engine": BELOW_ENGINE,
    **{folder: BELOW_ENGINE | {"engine"} for folder in ABOVE_ENGINE},
    "cli": BELOW_ENGINE | {"engine"} | ABOVE_ENGINE,
}
EXCEPTIONS = {("structures/prediction.py", "visualization")}  # Prediction.draw


def imports_of(source: str, package: tuple[str, ...] = ()) -> Iterator[str]:
    """Everything that a source of `package` imports, also inside functions and by `import_module`, in full names.

    `from a import b` gives a and a.b, since b may be a module; relative imports are resolved.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *(node.module.split(".") if node.module else ())))
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args:
            called = ast.unparse(node.func).rpartition(".")[2]
            text = node.args[0].values[0] if isinstance(node.args[0], ast.JoinedStr) else node.args[0]
            if called in ("import_module", "__import__") and isinstance(text, ast.Constant):
                yield str(text.value)


def forbidden(place: str, source: str) -> set[str]:
    """Folders of the package that the file at `place` (relative to the package) must not import and does."""
    folder, package = place.split("/")[0], ("partglee", *place.split("/")[:-1])
    ours = {name.split(".")[1] for name in imports_of(source, package) if name.startswith("partglee.")}
    excused = {target for file, target in EXCEPTIONS if file == place}
    public = {"__version__"}  # the rest of `partglee` itself is for those who use the package
    return ours - ALLOWED[folder] - {folder, "basics"} - excused - public


SOURCES = sorted(f for f in PACKAGE.rglob("*.py") if f.parent != PACKAGE)  # the package itself resolves names lazily


@pytest.mark.parametrize("file", SOURCES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_follow_the_table(file: Path) -> None:
    place = file.relative_to(PACKAGE).as_posix()
    assert not forbidden(place, file.read_text(encoding="utf-8")), f"{place}: see the table in docs/design.md"


@pytest.mark.parametrize(
    ("place", "line", "wrong"),
    [
        ("ops/masks.py", "from partglee.modeling import build_model", {"modeling"}),
        ("ops/masks.py", "from partglee import modeling", {"modeling"}),
        ("ops/masks.py", "from partglee import Predictor", {"Predictor"}),
        ("ops/masks.py", "import partglee.engine.trainer as t", {"engine"}),
        ("ops/masks.py", "from ..text.encoder import TextEncoder", {"text"}),
        ("ops/masks.py", "from .. import text", {"text"}),
        ("data/datasets/coco.py", "from ...evaluation import GroundTruth", {"evaluation"}),
        ("structures/text.py", "def f():\n    from partglee.visualization import draw_prediction", {"visualization"}),
        ("structures/text.py", "import importlib\nimportlib.import_module('partglee.data')", {"data"}),
        ("engine/run.py", "from importlib import import_module\nimport_module(f'partglee.cli.{name}')", {"cli"}),
        ("basics/files.py", "from partglee.structures import Prediction", {"structures"}),
        ("criterion/matcher.py", "from partglee.modeling.heads import PredictionHeads", {"modeling"}),
        ("structures/prediction.py", "from partglee.visualization import draw_prediction", set()),
        ("cli/train.py", "from partglee.engine import Predictor\nfrom partglee.basics.names import name_key", set()),
        ("ops/masks.py", "import torch\nfrom partglee.ops.points import sample_points\nfrom . import points", set()),
    ],
)  # fmt: skip
def test_the_table_can_fail(place: str, line: str, wrong: set[str]) -> None:
    assert forbidden(place, f"import os\n\n{line}\n") == wrong


def test_every_folder_is_in_the_table_and_no_file_outside() -> None:
    assert {f.relative_to(PACKAGE).parts[0] for f in SOURCES} <= set(ALLOWED)
    assert {f.name for f in PACKAGE.glob("*.py")} <= {"__init__.py", "__main__.py"}


def section(heading: str) -> str:
    """The text under one heading of docs/design.md."""
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    return text.partition(f"## {heading}\n")[2].partition("\n## ")[0]


def test_the_table_is_that_of_the_documents() -> None:
    documented: dict[str, set[str]] = {}
    for line in section("Who may import whom").split("```")[1].strip().splitlines():
        left, right = (half.strip() for half in line.split("<-"))
        right = right.partition(";")[0]
        if right == "nothing of ours":
            names = set()
        elif right == "all of the above":
            names = set(documented)
        elif right.endswith(" and below"):
            names = {right.split()[0], *documented[right.split()[0]]}
        else:
            names = set(right.split(", "))
        documented.update({folder: names - {"basics"} for folder in left.split(", ")})
    assert documented.pop("tools") == documented.pop("projects") == {"public modules"}
    assert documented == ALLOWED


def test_exceptions_are_needed() -> None:
    for place, target in EXCEPTIONS:
        names = imports_of((PACKAGE / place).read_text(encoding="utf-8"), ("partglee", *place.split("/")[:-1]))
        assert any(name.startswith(f"partglee.{target}") for name in names), f"{place} no longer imports {target}"


def test_core_imports_neither_detectron2_nor_tools_nor_projects() -> None:
    outside = {"tools", "projects", "tests", *(folder.name for folder in (ROOT / "projects").glob("*/"))}
    for file in SOURCES:
        names = {name.split(".")[0] for name in imports_of(file.read_text(encoding="utf-8"))}
        assert not names & outside, file
        assert "detectron2" not in names or file.relative_to(PACKAGE).parts[0] == "integrations", file


def test_files_stay_readable() -> None:
    long = {str(f): n for f in SOURCES if (n := len(f.read_text(encoding="utf-8").splitlines())) > 400}
    assert not long, "files over 400 lines"


def test_public_names() -> None:
    import partglee

    assert partglee.__all__ == [
        "Prediction", "Predictor", "Vocabulary", "__version__", "build_model", "get_cfg", "list_models",
    ]  # fmt: skip
    for name in partglee.__all__:
        assert getattr(partglee, name) is not None
    with pytest.raises(AttributeError, match="public names"):
        partglee.no_such_name  # noqa: B018


def test_public_signatures() -> None:
    import inspect

    import partglee

    call = list(inspect.signature(partglee.Predictor.__call__).parameters)
    assert call[:4] == ["self", "images", "vocabulary", "score_threshold"]
    assert {"objects", "parts_of", "draw", "to_coco", "to_supervision", "tree"} <= set(dir(partglee.Prediction))
    assert {"parse", "builtin", "with_known_parts", "list_builtin"} <= set(dir(partglee.Vocabulary))


def test_import_is_light() -> None:
    """`import partglee` alone must not load torch: the command line answers --version and --help at once."""
    code = "import sys, partglee, partglee.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# What stands outside the package -------------------------------------------------------------------------------------

PUBLIC_MODULES = set(re.findall(r"^\| `(partglee[\w.]*)`", section("Public modules"), re.MULTILINE))


def not_public(source: str) -> set[str]:
    """What a project's source takes from the library beyond names without underscore in public modules."""
    tree, wrong = ast.parse(source), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            wrong |= {alias.name for alias in node.names if is_ours(alias.name) and alias.name not in PUBLIC_MODULES}
        elif isinstance(node, ast.ImportFrom) and node.module and is_ours(node.module):
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            if node.module in PUBLIC_MODULES:
                wrong |= {name for name in full if name.rpartition(".")[2].strip("_") != name.rpartition(".")[2]}
            else:
                wrong |= full - PUBLIC_MODULES
        elif isinstance(node, ast.Attribute) and re.match("_(?!_|replace$|asdict$|fields$)", node.attr):
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            wrong |= set() if own else {ast.unparse(node)}
    return wrong


def is_ours(module: str) -> bool:
    return module.split(".")[0] == "partglee"


GUESTS = sorted([*(ROOT / "projects").rglob("*.py"), *(ROOT / "tools").glob("*.py")])


@pytest.mark.parametrize("file", GUESTS, ids=lambda f: str(f.relative_to(ROOT)))
def test_projects_and_tools_use_public_names(file: Path) -> None:
    assert not not_public(file.read_text(encoding="utf-8")), "docs/design.md lists the public modules"


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("from partglee.structures import Vocabulary, Prediction", set()),
        ("from partglee import Predictor, structures", set()),
        ("import partglee\nself._own = partglee.structures.Vocabulary", set()),
        ("from partglee.ops.dispatch import _native", {"partglee.ops.dispatch._native"}),
        ("from partglee.structures import _names", {"partglee.structures._names"}),
        ("from partglee.structures.prediction import Level", {"partglee.structures.prediction.Level"}),
        ("import partglee.modeling.swin", {"partglee.modeling.swin"}),
        ("trainer._apply(batch)", {"trainer._apply"}),
        ("def f():\n    from partglee.no_such_module import x", {"partglee.no_such_module.x"}),
    ],
)  # fmt: skip
def test_the_rule_for_projects_can_fail(line: str, wrong: set[str]) -> None:
    assert not_public(line) == wrong


@pytest.mark.parametrize("name", sorted(PUBLIC_MODULES))
def test_public_modules_stand_and_say_what_they_are(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
