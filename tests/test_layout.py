"""The package's shape: who imports whom, the public names, files of a size to read."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "partglee"
BELOW_ENGINE = {
    "ops", "structures", "config", "layers", "text", "modeling", "criterion", "data", "evaluation", "visualization",
    "checkpoint",
}  # fmt: skip
ALLOWED = {  # the import table of docs/design.md
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
    "integrations": BELOW_ENGINE | {"engine"},
    "testing": BELOW_ENGINE | {"engine"},
    "cli": BELOW_ENGINE | {"engine", "testing", "integrations"},
}


def imports_of(file: Path) -> set[str]:
    """Every module that a file imports, also inside functions; relative imports resolved."""
    found = set()
    package = file.relative_to(PACKAGE.parent).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            found.add(".".join(p for p in (base, node.module or "") if p))
    return found


SOURCES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("file", SOURCES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_follow_the_table(file: Path) -> None:
    folder = file.relative_to(PACKAGE).parts[0]
    if folder.endswith(".py"):
        return  # partglee/__init__.py resolves the public names lazily
    ours = {name.split(".")[1] for name in imports_of(file) if name.startswith("partglee.")}
    forbidden = ours - ALLOWED[folder] - {folder, "basics"}
    assert not forbidden, f"{folder} must not import {sorted(forbidden)}"


def test_every_folder_is_in_the_table() -> None:
    folders = {f.relative_to(PACKAGE).parts[0] for f in SOURCES if f.parent != PACKAGE}
    assert folders <= set(ALLOWED)


def test_the_table_can_fail(tmp_path: Path) -> None:
    file = PACKAGE / "ops" / "masks.py"
    tree = ast.parse(file.read_text() + "\nfrom partglee.modeling import build_model\n")
    names = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert "partglee.modeling" in names and "modeling" not in ALLOWED["ops"]


def test_core_does_not_import_detectron2() -> None:
    users = [f for f in SOURCES if any(n.split(".")[0] == "detectron2" for n in imports_of(f))]
    assert all(f.relative_to(PACKAGE).parts[0] == "integrations" for f in users)


def test_nothing_in_the_package_imports_tools_or_projects() -> None:
    for file in SOURCES:
        assert not {n.split(".")[0] for n in imports_of(file)} & {"tools", "projects", "tests"}, file


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
