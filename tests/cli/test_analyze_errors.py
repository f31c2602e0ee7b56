"""tools/analyze_errors.py on a toy set."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image

from partglee.cli import main
from partglee.cli.analyze_errors import main as analyse
from partglee.data import get_dataset
from partglee.data.segmentation import encode_segmentation
from partglee.evaluation.joint import category_ids_of


@pytest.fixture
def predictions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The annotations of toy_val as COCO results, the parts of the second image missing."""
    monkeypatch.setenv("PARTGLEE_DATASETS", str(tmp_path))
    assert main(["data", "toy", "--images", "30", "--size", "48", "64"]) == 0
    records = get_dataset("toy_val").read()
    ids = category_ids_of(records)
    rows = []
    for index in range(len(records)):
        record = records[index]
        for level, instances in enumerate((record.objects, record.parts if index != 1 else ())):
            for instance in instances:
                x0, y0, x1, y1 = instance.box
                mask = encode_segmentation(instance.segmentation, (48, 64), what="annotation")
                segmentation = {"size": [48, 64], "counts": mask["counts"].decode()}
                rows.append(
                    {"image_id": record.image_id, "category_id": ids[level][instance.label], "score": 0.9,
                     "bbox": [x0, y0, x1 - x0, y1 - y0], "segmentation": segmentation,
                     "id": len(rows) + 1, "parent_id": None}
                )  # fmt: skip
    file = tmp_path / "found.json"
    file.write_text(json.dumps(rows))
    return file


def test_report_and_pictures(
    predictions: Path, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "report"
    arguments = ["--predictions", predictions, "--dataset", "toy_val", "--output", output, "--number", "1"]
    monkeypatch.setattr(sys, "argv", ["analyze_errors.py", *map(str, arguments)])
    with pytest.raises(SystemExit) as status:
        runpy.run_path(str(root / "tools" / "analyze_errors.py"), run_name="__main__")
    assert status.value.code == 0
    text = (output / "report.md").read_text()
    worst = text.split("## Worst images")[1]
    assert "(id 2)" in worst and "pictures/2.jpg" in worst
    assert "| object/mask/AP | 100.00 |" in text
    with Image.open(output / "pictures" / "2.jpg") as picture:
        assert picture.width > 2 * picture.height
    assert "report.md" in capsys.readouterr().out


def test_without_images(predictions: Path, tmp_path: Path) -> None:
    for file in (tmp_path / "toy" / "val").iterdir():
        file.unlink()
    arguments = ["--predictions", str(predictions), "--dataset", "toy_val", "--output", str(tmp_path / "report")]
    assert analyse(arguments) == 2
    assert not (tmp_path / "report" / "report.md").exists()
    assert analyse([*arguments, "--no-pictures", "--kind", "bbox", "--score-threshold", "0.5"]) == 0
    assert "boxes and from the score 0.500" in (tmp_path / "report" / "report.md").read_text()


def test_wrong_names(predictions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert analyse(["--predictions", str(predictions), "--dataset", "toy_vl", "--output", str(tmp_path / "r")]) == 2
    assert "did you mean 'toy_val'" in capsys.readouterr().err
