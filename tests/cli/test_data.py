"""`partglee data` on toy scenes in a folder of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from partglee.cli import main
from partglee.visualization.annotations import annotated_prediction


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PARTGLEE_DATASETS", str(tmp_path))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")  # pictures go to the current folder
    return tmp_path


@pytest.fixture
def toy(root: Path) -> Path:
    assert main(["data", "toy", "--images", "20", "--size", "64", "80"]) == 0
    return root / "toy"


def test_toy_writes_the_registered_data_sets(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(json.loads((toy / "train.json").read_text())["images"]) == 20
    assert len(json.loads((toy / "val.json").read_text())["images"]) == 2
    assert main(["data", "show", "toy_train", "--samples", "2"]) == 0
    out = capsys.readouterr().out
    assert "20 images; images with each name:" in out and "bicycle" in out and "saddle" in out
    assert "should hold: nobody says how much" in out and out.endswith("drew 2 images into toy_train_pictures\n")
    first = sorted(path.name for path in Path("toy_train_pictures").iterdir())
    assert main(["data", "show", "toy_train", "--samples", "2", "--seed", "1", "--draw", "other"]) == 0
    assert len(first) == 2 and sorted(path.name for path in Path("other").iterdir()) != first
    assert main(["data", "show", "toy_train", "--no-draw", "--draw", "none"]) == 0 and not Path("none").exists()


def test_list_says_what_is_there(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "list", "--count"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    count = len(json.loads((toy / "val.json").read_text())["annotations"])
    content = json.loads((toy / "val.json").read_text())
    parts = sum("parent_id" in entry for entry in content["annotations"])
    assert lines["toy_val"].endswith(f"val.json, 2 images, {count - parts} objects, {parts} parts")
    assert "missing:" in lines["coco_2017_val"] and lines["coco_2017_val"].endswith("5000 images published")
    assert lines["pascalvoc_joint_val"].endswith("850 images expected, unconfirmed")
    (toy.parent / "coco" / "annotations").mkdir(parents=True)
    (toy / "val.json").rename(toy.parent / "coco" / "annotations" / "instances_val2017.json")
    assert main(["data", "list", "--count"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("coco_2017_val"))
    assert f"missing: {toy.parent / 'coco' / 'val2017'}" in line and "2 images INSTEAD OF 5000 (published)" in line
    assert f"{count - parts} objects INSTEAD OF 36781 (published)" in line


def test_list_goes_on_after_a_damaged_file(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (toy / "train.json").write_text('{"images": [')
    assert main(["data", "list", "--count"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "NOT READABLE: annotation file" in lines["toy_train"] and "2 images" in lines["toy_val"]


def test_check_draws_images_from_all_over_the_file(
    toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["data", "check", str(toy / "train.json"), "--draw", str(tmp_path / "pictures"), "--number", "2"]
    assert main(command) == 0
    assert f"0 errors, 0 warnings\nimage files of {toy}\ndrew 2 images" in capsys.readouterr().out
    pictures = sorted((tmp_path / "pictures").iterdir())
    assert [picture.name for picture in pictures] == ["000000_1.jpg", "000010_11.jpg"]
    with Image.open(pictures[0]) as picture:
        assert picture.width > picture.height > 64


def test_check_fails_on_errors_and_still_draws(toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads((toy / "val.json").read_text())
    content["annotations"][0]["category_id"] = 99
    content["annotations"][1]["segmentation"] = {"size": [1, 1], "counts": "0"}
    content["annotations"][2].pop("bbox")
    content["images"][1]["file_name"] = "gone.jpg"  # of two: --number 10 takes what there is
    (toy / "bad.json").write_text(json.dumps(content))
    command = ["data", "check", str(toy / "bad.json"), "--images", str(toy), "--draw", str(tmp_path / "bad")]
    assert main(command) == 1
    out = capsys.readouterr().out
    assert "error: 1 x image file that is missing" in out and "drew 1 images" in out


@pytest.mark.parametrize(
    ("level", "value", "rule"),
    [
        ("annotations", None, "annotation without id, image_id, category_id, bbox"),
        ("annotations", {"id": [3]}, "an id that is no whole number"),
        ("annotations", {"image_id": [1]}, "an id that is no whole number"),
        ("annotations", {"category_id": "1"}, "an id that is no whole number"),
        ("annotations", {"bbox": "abcd"}, "box that is not four numbers"),
        ("annotations", {"bbox": [float("nan")] * 4}, "box that is not four numbers"),
        ("annotations", {"segmentation": {"size": [64, 80], "counts": "abc"}}, "run lengths that are broken"),
        ("annotations", {"parent_id": [3]}, "parent that is no usable annotation"),
        ("images", "a.jpg", "image without id, file_name"),
        ("images", {"id": "1"}, "an id that is no whole number"),
        ("categories", 3, "category without id, name"),
        ("categories", {"id": [3]}, "an id that is no whole number"),
    ],
)
def test_drawing_never_hides_the_report(
    toy: Path, level: str, value: object, rule: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is wrong in one entry is told, and the other images are drawn."""
    content = json.loads((toy / "train.json").read_text())
    row = next(i for i, entry in enumerate(content[level]) if level != "annotations" or "parent_id" in entry)
    content[level][row] = {**content[level][row], **value} if isinstance(value, dict) else value
    (toy / "bad.json").write_text(json.dumps(content))
    assert main(["data", "check", str(toy / "bad.json"), "--images", str(toy), "--number", "1"]) == 1
    out = capsys.readouterr().out
    assert rule in out and "drew 1 images into bad_pictures" in out


def test_what_can_not_be_checked(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for source, message in (
        ("nowhere.json", "give an annotation file or the name of a data set"),
        ("toy_vall", "did you mean 'toy_val'"),
        ("coco_2017_val", "datasets/README.md"),
    ):
        assert main(["data", "check", source]) == 2
        assert message in capsys.readouterr().err
    (toy / "alone").mkdir()
    (toy / "alone" / "val.json").write_text((toy / "val.json").read_text())
    (toy / "val").rename(toy / "elsewhere")
    assert main(["data", "check", str(toy / "alone" / "val.json")]) == 0
    assert "nothing is drawn: name their folder with --images DIR" in capsys.readouterr().out
    assert main(["data", "check", str(toy / "alone" / "val.json"), "--draw", "x"]) == 2
    assert "--images DIR" in capsys.readouterr().err
    (toy / "val.json").write_text("{")
    assert main(["data", "check", "toy_val"]) == 2
    assert "not readable JSON" in capsys.readouterr().err


def test_annotations_as_a_prediction() -> None:
    categories = {
        1: {"id": 1, "name": "car", "level": "object"}, 2: {"id": 2, "name": "car:wheel", "level": "part"},
    }  # fmt: skip
    square = [[1.0, 1.0, 5.0, 1.0, 5.0, 5.0, 1.0, 5.0]]
    entries = [
        {"id": 7, "category_id": 2, "bbox": [1, 1, 4, 4], "segmentation": square, "parent_id": 9},
        {"id": 9, "category_id": 1, "bbox": [0, 0, 8, 8], "segmentation": square},
        {"id": 10, "category_id": 1, "bbox": [0, 0, 8, 8], "iscrowd": 1},
        {"id": 11, "category_id": 5, "bbox": [0, 0, 8, 8]},
        {"id": 12, "category_id": 2, "bbox": [1, 1, 4, 4], "segmentation": square, "parent_id": 500},
    ]
    prediction = annotated_prediction(entries, categories, (10, 10))
    assert prediction.names == ["wheel", "car", "wheel"] and prediction.parent.tolist() == [1, -1, -1]
    assert prediction.masks is not None and prediction.masks[0].sum() == 16
    entries[1].pop("segmentation")
    assert annotated_prediction(entries, categories, (10, 10)).masks is None
