"""The notebooks of the documents: their cells run in turn, in a folder of their own, and show what they promise."""

from __future__ import annotations

import ast
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import site_pages

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def run(notebook: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Run all cells beside a copy of docs/photos; what a cell shows at its end is drawn, as Jupyter would.

    Returns:
        the variables that the cells leave, and `shown`: the PNG or the text of each value that a cell ends with.
    """
    shutil.copytree(FOLDER.parent / "photos", tmp_path / "photos")
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "temporary").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("PARTGLEE_DATASETS", "")  # put back afterwards
    names: dict[str, Any] = {"__name__": "__main__"}
    shown: list[Any] = []
    for kind, source in site_pages.cells(FOLDER / notebook):
        if kind != "code":
            continue
        tree = ast.parse(source)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, notebook, "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), notebook, "eval"), names)
            if value is not None:
                shown.append(value._repr_png_() if hasattr(value, "_repr_png_") else repr(value))
    return {**names, "shown": shown}


def test_they_are_stored_without_what_they_show() -> None:
    assert len(NOTEBOOKS) == 2
    for notebook in NOTEBOOKS:
        content = json.loads(notebook.read_text(encoding="utf-8"))
        code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
        assert code and all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
        assert content["cells"][0]["source"][0].startswith("# "), "the first cell is the title of the page"


def test_first_photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    left = run("first_photo.ipynb", monkeypatch, tmp_path)
    assert sorted(row.name for row in left["person"].parts) == ["ear", "ear", "eye", "eye", "mouth"]
    text = capsys.readouterr().out
    assert text.count("part of person") == 5 and text.rstrip().endswith("True"), "JSON brings all of it back"
    assert "moustache" in text, "the unknown word is named"
    assert (tmp_path / "notebooks" / "found.jpg").stat().st_size > 10_000
    x0, y0, x1, y1 = left["mouth"].box
    width, height = left["mouth"].crop().size
    assert abs(width - (x1 - x0)) <= 2 and abs(height - (y1 - y0)) <= 2


def test_own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    left = run("own_data.ipynb", monkeypatch, tmp_path)
    assert "0 errors" in capsys.readouterr().out
    losses = [line["loss/total"] for line in left["lines"] if "loss/total" in line]
    assert len(losses) == 4 and all(math.isfinite(loss) and loss > 0 for loss in losses)
    assert any("eval/my_parts_val/object/box/AP50" in line for line in left["lines"])
    assert left["predictor"](left["folder"] / "toy/val/000001.jpg", "car: wheel").image_size == (96, 96)
    *statuses, picture = left["shown"]
    assert statuses == ["0"] * 4, "toy, check, train, export"
    assert picture.startswith(b"\x89PNG")
