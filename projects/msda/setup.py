"""`pip install ./projects/msda`: the operator of partglee as a package that needs nothing but torch.

Its sources lie in the library alone: ``csrc`` and ``partglee_msda/ops`` are links, which become files in the wheel and
in the sdist, so that those stand alone.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

sys.path.insert(0, str(Path(__file__).absolute().parent / "csrc"))
try:
    from build_ops import BdistWheel, BuildOps, BuildProblem, build_ops, torch_dir
except ModuleNotFoundError:
    raise SystemExit(
        "projects/msda/csrc leads nowhere: the checkout has lost its symbolic links; clone again where links "
        "are allowed (`git config core.symlinks true`), or install from an sdist or a wheel"
    ) from None

HERE = Path(__file__).absolute().parent
PACKAGE = "partglee_msda"
OPERATORS = ("ms_deform_attn",)
NOT_OURS = ("masks", "points", "run_lengths")  # what partglee.ops has besides the operator


class BuildPy(build_py):
    """Python files, then the libraries."""

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        found = super().find_package_modules(package, package_dir)
        return [row for row in found if not (package == f"{PACKAGE}.ops" and row[1] in NOT_OURS)]

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            build_ops(HERE / PACKAGE / "_lib", PACKAGE, OPERATORS)
            return
        built = Path(self.build_lib) / PACKAGE / "_lib"
        shutil.rmtree(built, ignore_errors=True)  # build/ may hold libraries of an earlier build
        build_ops(built, PACKAGE, OPERATORS)


class BuildHere(BuildOps):
    package = PACKAGE
    operators = OPERATORS


class Wheel(BdistWheel):
    package = PACKAGE


def needed_to_build() -> list[str]:
    """torch where the environment has none: what is built with one release from 2.10 on serves the others."""
    if os.environ.get("PARTGLEE_BUILD_OPS") == "0":
        return []
    try:
        torch_dir()
    except BuildProblem:
        return ["torch>=2.10"]
    return []


def version() -> str:
    """The one place that says it is ``partglee_msda/__init__.py``, which is read, not imported."""
    found = re.search(r'^__version__ = "([^"]+)"$', (HERE / PACKAGE / "__init__.py").read_text("utf-8"), re.MULTILINE)
    if found is None:
        raise SystemExit(f"{PACKAGE}/__init__.py has no __version__")
    return found.group(1)


setup(
    name="partglee-msda",
    version=version(),
    description="Multi-scale deformable attention, fast on CPU and CUDA, also inside the models of transformers",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    classifiers=[f"Programming Language :: Python :: 3.{minor}" for minor in (10, 11, 12, 13)],
    packages=[PACKAGE, f"{PACKAGE}.ops"],
    package_dir={"": "."},  # an editable install is a plain .pth then, which type checkers follow too
    package_data={PACKAGE: ["py.typed"]},
    exclude_package_data={PACKAGE: ["_lib/*"]},
    setup_requires=needed_to_build(),
    install_requires=["torch>=2.10"],
    extras_require={"model": ["transformers>=5.20"]},  # for `patch()`
    cmdclass={"build_ops": BuildHere, "build_py": BuildPy, "bdist_wheel": Wheel},
)
