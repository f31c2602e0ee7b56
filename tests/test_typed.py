"""Types as a user's checker sees them, of an editable install."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import partglee
from partglee.structures import Grounding, MaskAnswer, PredictionRow

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = """
from pathlib import Path

from partglee import Predictor, Prediction, Vocabulary

predictor = Predictor.from_pretrained("partglee-tiny")
reveal_type(predictor("a.jpg", {"car": ["wheel"], "person": []}))
reveal_type(predictor(["a.jpg", "b/*.jpg"], "car: wheel", batch_size=2))
reveal_type(predictor((Path(name) for name in ["a.jpg"]), ["car"]))
reveal_type(predictor(predictor.encode_image("a.jpg"), Vocabulary.parse("car")))
reveal_type(predictor.ground("a.jpg", "the car"))
reveal_type(predictor.ground("a.jpg", ["the car", "a dog"], union=True))
found = predictor("a.jpg", "car: wheel", score_threshold=0.5)
for row in found:
    reveal_type(row.parent)
reveal_type(found[0].score)
reveal_type(found[:2])
reveal_type(found.to_coco()[0]["category_id"])
predictor("a.jpg", "car", score_treshold=0.5)
predictor("a.jpg", 5)
found.save(7)
"""
REVEALED = [
    "Prediction", "list[Prediction]", "Iterator[Prediction]", "Prediction", "Grounding", "list[Grounding]",
    "PredictionRow | None", "float", "Prediction", "int",
]  # fmt: skip
PUBLIC = (partglee.Predictor, partglee.Prediction, partglee.Vocabulary, Grounding, MaskAnswer, PredictionRow)


@pytest.mark.parametrize("owner", PUBLIC, ids=lambda owner: owner.__name__)
def test_public_signatures_have_types_and_say_no_any(owner: type) -> None:
    untyped = {"decode"}  # two questions in one name: its overloads have the types
    for name, function in inspect.getmembers(owner, callable):
        if (name.startswith("_") and name != "__call__") or name in untyped or not hasattr(function, "__annotations__"):
            continue
        signature = inspect.signature(function)
        for parameter in signature.parameters.values():
            assert parameter.kind != parameter.VAR_KEYWORD, f"{owner.__name__}.{name} takes **{parameter.name}"
            assert "Any" not in str(parameter.annotation), f"{owner.__name__}.{name}({parameter.name})"
        assert "Any" not in str(signature.return_annotation), f"{owner.__name__}.{name} returns Any"


@pytest.mark.slow
def test_a_checker_finds_the_types_of_an_editable_install(tmp_path: Path) -> None:
    checkout, wheels, environment = tmp_path / "checkout", tmp_path / "wheels", tmp_path / "venv"
    shutil.copytree(ROOT / "partglee", checkout / "partglee", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for name in ("setup.py", "pyproject.toml", "README.md", "MANIFEST.in"):
        shutil.copy(ROOT / name, checkout)
    shutil.copytree(ROOT / "csrc", checkout / "csrc", ignore=shutil.ignore_patterns("__pycache__"))
    wheels.mkdir()
    build = "import sys; from setuptools import build_meta; build_meta.build_editable(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", build, str(wheels)], cwd=checkout, check=True, capture_output=True,
        env={**os.environ, "PARTGLEE_BUILD_OPS": "0"},
    )  # fmt: skip
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    (site,) = environment.glob("[Ll]ib/**/site-packages")
    with zipfile.ZipFile(next(wheels.glob("*.whl"))) as wheel:
        wheel.extractall(site)
    (site / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    (script := tmp_path / "user.py").write_text(SCRIPT)
    (python,) = (path for path in (*environment.glob("bin/python"), *environment.glob("Scripts/python.exe")))
    told = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--ignore-missing-imports", "--follow-imports=silent",
         "--cache-dir", str(tmp_path / "cache"), "--python-executable", str(python), str(script)],
        cwd=tmp_path, check=False, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert "missing library stubs or py.typed" not in told and "import-not-found" not in told, told
    revealed = re.findall(r'Revealed type is "(.*)"', told)
    assert [re.sub(r"\w+\.(?=\w)", "", kind.replace("builtins.", "")) for kind in revealed] == REVEALED, told
    lines = SCRIPT.splitlines()
    errors = {lines[int(number) - 1] for number in re.findall(r"user\.py:(\d+): error", told)}
    assert errors == set(lines[-3:]), told
