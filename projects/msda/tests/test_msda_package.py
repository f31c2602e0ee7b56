"""The package by itself: what it imports, both packages in one process, and an sdist that needs no checkout."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import partglee_msda
import pytest
import torch
from partglee_msda.ops import native

from partglee.ops import native as library_native

PROJECT = Path(partglee_msda.__file__).absolute().parents[1]
ROOT = PROJECT.parents[1]
OTHERS = ("masks", "points", "run_lengths")  # of partglee.ops, which setup.py leaves out
OPS = [file for file in (ROOT / "partglee" / "ops").glob("*.py") if file.stem not in OTHERS]
SOURCES = sorted([*(PROJECT / "partglee_msda").glob("*.py"), *OPS])
BOTH = """
import sys
import torch
for name in sys.argv[1:]:
    __import__(name)
import partglee.ops, partglee_msda
assert partglee.ops.native.OPERATORS is not partglee_msda.ops.native.OPERATORS
value = torch.randn(1, 20, 2, 4, requires_grad=True)
places, weights = torch.rand(1, 3, 2, 1, 2, 2), torch.rand(1, 3, 2, 1, 2)
results = []
for operator in (partglee.ops.ms_deform_attn, partglee_msda.ms_deform_attn):
    out = operator(value, [(4, 5)], None, places, weights)
    results.append((out, *torch.autograd.grad(out.sum(), value)))
assert all(torch.equal(a, b) for a, b in zip(*results))
print(type(results[1][0].grad_fn).__name__)
"""


def run(code: str, *arguments: str, folder: Path = ROOT, paths: tuple[Path, ...] = (ROOT, PROJECT)) -> str:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("order", [("partglee.ops", "partglee_msda"), ("partglee_msda", "partglee.ops")])
def test_both_packages_live_in_one_process(order: tuple[str, str]) -> None:
    """Each with its own library: PyTorch lets no two define one name."""
    told = run(BOTH, *order)
    if native.CPU.loaded and library_native.CPU.loaded:
        assert told.strip() == "GeneratedBackwardFor_partglee_msda_ms_deform_attn_defaultBackward"


def test_it_needs_nothing_but_torch() -> None:
    tops = set()
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                tops |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                tops.add(node.module.split(".")[0])
    assert tops - set(sys.stdlib_module_names) == {"torch"}


def test_partglee_and_transformers_are_not_imported() -> None:
    run("import sys, partglee_msda; sys.exit(bool({'partglee', 'transformers'} & sys.modules.keys()))")


def test_the_operator_by_itself() -> None:
    value, places, weights = torch.ones(1, 20, 2, 4), torch.full((1, 3, 2, 1, 2, 2), 0.5), torch.ones(1, 3, 2, 1, 2)
    out = partglee_msda.ms_deform_attn(value, [(4, 5)], None, places, weights)
    assert torch.equal(out, torch.full((1, 3, 8), 2.0))
    with partglee_msda.use_ops("reference"):
        assert partglee_msda.status()["cpu path"] == "grid_sample"
    assert partglee_msda.status()["mode"] != "reference"


def test_the_examples_of_the_page_run() -> None:
    pytest.importorskip("transformers")
    examples = re.findall(r"```python\n(.*?)```", (PROJECT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        run(example)


def test_libraries_lie_beside_this_package() -> None:
    assert native.LIBRARY_DIR == PROJECT / "partglee_msda" / "_lib"
    assert native.PACKAGE == "partglee_msda" and library_native.PACKAGE == "partglee"
    assert "install partglee_msda again" in native.BUILD_HINT


def build(kind: str, folder: Path, output: Path, mode: str) -> Path:
    """By setuptools' own back end, as pip would."""
    code = f"import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])"
    env = {**os.environ, "PARTGLEE_BUILD_OPS": mode}
    done = subprocess.run(
        [sys.executable, "-c", code, str(output)], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (made,) = output.iterdir()
    return made


def copy_of_checkout(target: Path) -> Path:
    """What the project needs of a checkout, links as links; the builds leave nothing in the real one."""
    ignored = shutil.ignore_patterns("__pycache__", "_lib", "*.egg-info", "build", "dist")
    for name in ("csrc", "partglee/ops", "projects/msda"):
        shutil.copytree(ROOT / name, target / name, symlinks=True, ignore=ignored)
    shutil.copy(ROOT / "LICENSE", target)
    return target / "projects" / "msda"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, unpacked away from any checkout."""
    folder = tmp_path_factory.mktemp("sdist")
    (folder / "made").mkdir()
    archive = build("sdist", copy_of_checkout(folder / "checkout"), folder / "made", "0")
    shutil.rmtree(folder / "checkout")
    with tarfile.open(archive) as tar:
        assert not [member.name for member in tar if member.issym() or member.islnk()]
        tar.extractall(folder / "unpacked", filter="data")
    (inside,) = (folder / "unpacked").iterdir()
    return inside


def test_the_sdist_holds_files(unpacked: Path) -> None:
    names = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    assert {"LICENSE", "README.md", "setup.py", "csrc/build_ops.py", "partglee_msda/py.typed"} <= names
    for name in ("native.py", "ms_deform_attn.py"):
        assert (unpacked / "partglee_msda/ops" / name).read_bytes() == (ROOT / "partglee/ops" / name).read_bytes()
    kernels = {path.name for path in (ROOT / "csrc" / "ms_deform_attn").iterdir()}
    assert {path.name for path in (unpacked / "csrc" / "ms_deform_attn").iterdir()} == kernels
    assert not [name for name in names if name.endswith((".pyc", ".so", "ops/masks.py", "ops/points.py"))]


def test_a_wheel_from_the_sdist_works_without_a_compiler(unpacked: Path, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    wheel = build("wheel", unpacked, tmp_path / "made", "0")
    assert wheel.name.endswith("-py3-none-any.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    told = run(
        "import partglee_msda; print(partglee_msda.__file__, partglee_msda.status()['cpu path'])",
        folder=tmp_path, paths=(tmp_path / "site",),
    )  # fmt: skip
    assert told.split() == [str(tmp_path / "site" / "partglee_msda" / "__init__.py"), "embedding_bag"]


@pytest.mark.compile
@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
def test_a_wheel_from_the_sdist_has_the_compiled_operator(unpacked: Path, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    wheel = build("wheel", unpacked, tmp_path / "made", "cpu")
    assert "-py3-none-linux" in wheel.name
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    told = run(
        "import partglee_msda; print(partglee_msda.status()['cpu path'])",
        folder=tmp_path, paths=(tmp_path / "site",),
    )  # fmt: skip
    assert told.strip() == "native"


def test_a_checkout_without_links_is_told(tmp_path: Path) -> None:
    """Git writes the target's name into a file where it may not make links."""
    project = copy_of_checkout(tmp_path)
    (project / "csrc").unlink()
    (project / "csrc").write_text("../../csrc")
    done = subprocess.run(
        [sys.executable, "setup.py", "--version"], cwd=project, capture_output=True, text=True, check=False
    )
    assert done.returncode and "symbolic links" in done.stderr and "Traceback" not in done.stderr
