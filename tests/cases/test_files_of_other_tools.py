"""Annotation files as other tools and people write them: read as they are meant, or refused in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from partglee.cli import main
from partglee.config import load_config
from partglee.data import DatasetSpec
from partglee.data.annotations.coco_json import CocoRecords, read_coco
from partglee.data.annotations.values import flag, text_of, whole
from partglee.data.images import list_images
from partglee.data.segmentation import read_label_map
from partglee.engine.preflight import _check_targets
from partglee.evaluation.prediction_files import ImageNames
from partglee.structures import Vocabulary


def content(categories: list[dict[str, Any]], *annotations: dict[str, Any], files: tuple[str, ...] = ("1.png",)) -> Any:
    images = [{"id": i, "file_name": name, "height": 64, "width": 96} for i, name in enumerate(files, 1)]
    entries = [
        {"id": i, "image_id": 1, "bbox": [5 * i, 5, 30, 20], "area": 600, "iscrowd": 0, **entry}
        for i, entry in enumerate(annotations, 1)
    ]
    return {"images": images, "categories": categories, "annotations": entries}


def perfect(of: Any) -> list[dict[str, Any]]:
    keys = ("image_id", "category_id", "bbox")
    return [{**{key: entry[key] for key in keys}, "score": 0.9} for entry in of["annotations"]]


def scores(folder: Path, of: Any, predictions: Any = None, *options: str, encoding: str = "utf-8") -> dict[str, float]:
    (folder / "annotations.json").write_text(json.dumps(of), encoding=encoding)
    rows = perfect(of) if predictions is None else predictions
    (folder / "pred.json").write_text(json.dumps(rows), encoding=encoding)
    return scores_of(folder, "pred.json", *options)


def scores_of(folder: Path, predictions: str, *options: str) -> dict[str, float]:
    arguments = ["--predictions", folder / predictions, "--annotations", folder / "annotations.json"]
    assert main(["eval", *map(str, arguments), "--kinds", "bbox", "--json", str(folder / "out.json"), *options]) == 0
    return dict(json.loads((folder / "out.json").read_text())["results"])


@pytest.fixture
def case(cases: Path, tmp_path: Path) -> Any:
    def copy(start: str) -> Path:
        (source,) = cases.glob(f"{start}_*")
        for entry in source.iterdir():
            (shutil.copytree if entry.is_dir() else shutil.copy)(entry, tmp_path / entry.name)
        return tmp_path

    return copy


# -- names ---------------------------------------------------------------------------------------------------------


def test_names_of_a_file_without_levels_are_as_they_are(tmp_path: Path) -> None:
    names = ["Mallard", "Cooper's Hawk", "ratio 16:9", "Mallard duck"]
    of = content([{"id": i, "name": name} for i, name in enumerate(names)], *({"category_id": i} for i in range(4)))
    found = scores(tmp_path, of, perfect(of)[:1])
    assert found["object/box/AP"] == pytest.approx(25) and not any("part" in key for key in found)
    records = records_of(tmp_path)
    assert records.vocabulary.object_names == tuple(names) and not records.vocabulary.part_names
    assert scores(tmp_path, of)["object/box/AP"] == pytest.approx(100)


def test_a_parent_id_or_one_level_says_that_names_split(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = [{"id": 1, "name": "dog"}, {"id": 2, "name": "dog:head"}]
    linked = content(names, {"category_id": 1}, {"category_id": 2, "parent_id": 1})
    beside = content(names, {"category_id": 2})
    alone = content([names[1], {"id": 3, "name": "dog:tail"}], {"category_id": 2})
    for of in (linked, content([{**names[0], "level": "object"}, names[1]], {"category_id": 2}), beside):
        caplog.clear()
        (tmp_path / "annotations.json").write_text(json.dumps(of))
        assert records_of(tmp_path).vocabulary.to_dict() == {"dog": ["head"]}
        assert "parts by their names alone, such as 'dog:head'" in caplog.text
    (tmp_path / "annotations.json").write_text(json.dumps(alone))
    assert records_of(tmp_path).vocabulary.to_dict() == {"dog": ["head", "tail"]}
    plain = content([{"id": 1, "name": "cat"}, names[1]], {"category_id": 1}, {"category_id": 2})
    (tmp_path / "annotations.json").write_text(json.dumps(plain))
    assert records_of(tmp_path).vocabulary.object_names == ("cat", "dog:head")
    assert "read as they are, such as 'dog:head'" in caplog.text
    plain["categories"][0]["name"] = "dog"
    (tmp_path / "annotations.json").write_text(json.dumps(plain))
    assert records_of(tmp_path, vocabulary=Vocabulary({"dog": ["head"]})).labels(0) == (frozenset({0}), frozenset({0}))


def test_an_exact_name_of_the_vocabulary_is_an_object(tmp_path: Path) -> None:
    names = [{"id": 1, "name": "Cooper's Hawk"}, {"id": 2, "name": "dog:head"}]
    of = content(names, {"category_id": 1}, {"category_id": 2})
    (tmp_path / "annotations.json").write_text(json.dumps(of))
    records = records_of(tmp_path, vocabulary=Vocabulary({"Cooper's Hawk": [], "dog": ["head"]}))
    assert records.labels(0) == (frozenset({0}), frozenset({0}))


@pytest.mark.parametrize("names", [("person", "person"), ("Person", "person"), ("person", " person ")])
def test_a_parent_category_named_like_its_child(tmp_path: Path, names: tuple[str, str], caplog: Any) -> None:
    of = content([{"id": i, "name": name} for i, name in enumerate(names)], {"category_id": 1})
    assert scores(tmp_path, of)["object/box/AP"] == pytest.approx(100)
    assert "have one name" in caplog.text
    assert scores(tmp_path, of, None, "--evaluator", "coco")["bbox/AP"] == pytest.approx(100)


def test_two_names_that_differ_in_case_and_are_both_annotated(tmp_path: Path) -> None:
    of = content([{"id": 1, "name": "Cat"}, {"id": 2, "name": "cat"}], {"category_id": 1}, {"category_id": 2})
    assert scores(tmp_path, of)["object/box/AP"] == pytest.approx(100)
    assert scores(tmp_path, of, perfect(of)[:1])["object/box/AP"] == pytest.approx(50)
    records = records_of(tmp_path)
    assert records.category_ids[0] == [1, 2] and records.vocabulary.object_prompts == ("Cat", "cat")


def records_of(folder: Path, **fields: Any) -> CocoRecords:
    path = folder / "annotations.json"
    return read_coco(DatasetSpec(name="x", annotations=str(path), images=str(folder), reader=read_coco, **fields))


# -- images --------------------------------------------------------------------------------------------------------


def test_images_are_found_by_as_much_of_the_path_as_tells_them_apart() -> None:
    names = ImageNames([("camA/0001.png", 1), ("camB/0001.png", 2), ("x/7.png", 3), ("8.png", 4), ("deep/8.png", 5)])
    assert [names.find(name) for name in ("camA/0001.png", "/data/camB/0001.png", "camB\\0001.png")] == [1, 2, 2]
    assert names.find("7.png") == 3 and names.find("other/7.png") == 3 and names.find("8.png") == 4
    assert names.find("0001.png") is None and names.find("camC/0001.png") is None and names.find(None) is None
    assert ImageNames([("a.png", 1), ("a.png", 2)]).find("a.png") is None
    assert ImageNames([("/root/camA/1.png", 1), ("/root/camB/1.png", 2)]).find("camB/1.png") == 2


def test_names_that_lead_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    for name in ("../secret.png", "/etc/passwd", "a/../../b.png", "..\\secret.png"):
        (tmp_path / "annotations.json").write_text(json.dumps(content([{"id": 1, "name": "a"}], files=(name,))))
        with pytest.raises(ValueError, match="leads out of the image folder"):
            records_of(tmp_path)[0]
        assert records_of(tmp_path, outside_images=True)[0].file.name
    (tmp_path / "annotations.json").write_text(json.dumps(content([{"id": 1, "name": "a"}], files=("a\\..b.png",))))
    assert records_of(tmp_path)[0].file == tmp_path / "a" / "..b.png"


def test_jfif_and_avif_are_taken_from_folders(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jfif", "c.AVIF", "d.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in list_images(tmp_path)] == ["a.jpg", "b.jfif", "c.AVIF"]


# -- values --------------------------------------------------------------------------------------------------------


def test_ids_as_floats(tmp_path: Path) -> None:
    of = content([{"id": 1.0, "name": "a"}], {"category_id": 1.0, "id": 900100000123.0, "image_id": 1.0})
    for evaluator in ("joint", "coco"):
        found = scores(tmp_path, of, None, "--evaluator", evaluator)
        assert found[f"{'object/box' if evaluator == 'joint' else 'bbox'}/AP"] == pytest.approx(100)
    assert main(["data", "check", str(tmp_path / "annotations.json"), "--no-draw"]) == 0


def test_a_byte_order_mark(tmp_path: Path) -> None:
    of = content([{"id": 1, "name": "é"}], {"category_id": 1})
    for evaluator in ("joint", "coco"):
        found = scores(tmp_path, of, None, "--evaluator", evaluator, encoding="utf-8-sig")
        assert found[f"{'object/box' if evaluator == 'joint' else 'bbox'}/AP"] == pytest.approx(100)
    assert main(["data", "check", str(tmp_path / "annotations.json"), "--no-draw"]) == 0


def test_values() -> None:
    assert [whole(value, "id") for value in (7, 7.0, -1)] == [7, 7, -1]
    for value in (7.5, "7", None, True, 2**63, 10**400, 1e300, float("nan"), [1]):
        with pytest.raises(ValueError, match="id must be a whole number"):
            whole(value, "id")
    assert not any(flag(value, "iscrowd") for value in (None, 0, 0.0, False, "0", "false", "False", ""))
    assert all(flag(value, "iscrowd") for value in (1, 1.0, True, "1", "true"))
    for value in ("maybe", 2, [0], {}, float("nan")):
        with pytest.raises(ValueError, match="iscrowd must be 0 or 1"):
            flag(value, "iscrowd")
    for value in ("a\0", "\ud83d", 7, None):
        with pytest.raises(ValueError, match="a name"):
            text_of(value, "a name")


WRONG: list[tuple[str, Any]] = [
    ("images", 7), ("images", {"id": 2**70, "file_name": "a"}), ("images", {"id": [1], "file_name": "a"}),
    ("images", {"id": 2, "file_name": "a\0b"}), ("images", {"id": 2, "file_name": {"a": 1}}), ("images", {"id": 2}),
    ("images", {"id": 2, "file_name": "a", "height": 10**30}), ("images", {"id": 2, "file_name": "a", "width": [3]}),
    ("images", {"id": 2, "file_name": "a", "neg_category_ids": {"x": 1}}),
    ("images", {"id": 2, "file_name": "a", "neg_category_ids": [[1]]}),
    ("categories", None), ("categories", {"id": 2, "name": 7}), ("categories", {"id": 2**64, "name": "b"}),
    ("categories", {"id": 2, "name": "\ud800"}), ("categories", {"id": "2", "name": "b"}),
    ("annotations", []), ("annotations", {"image_id": 1, "category_id": None, "bbox": [1, 2, 3, 4]}),
    ("annotations", {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "iscrowd": "maybe"}),
    ("annotations", {"image_id": 1, "category_id": 1, "bbox": 7}),
    ("annotations", {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "parent_id": "x"}),
]  # fmt: skip


@pytest.mark.parametrize(("key", "entry"), WRONG)
def test_an_entry_that_cannot_be_read_is_named(tmp_path: Path, key: str, entry: Any, capsys: Any) -> None:
    of = content([{"id": 1, "name": "a"}], {"category_id": 1})
    place = len(of[key]) + 1
    of[key].append(entry)
    (tmp_path / "annotations.json").write_text(json.dumps(of))
    with pytest.raises(ValueError, match=rf"annotations\.json', in {key}: number {place} ") as error:
        records_of(tmp_path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600
    assert main(["data", "check", str(tmp_path / "annotations.json"), "--no-draw"]) in (1, 2)


# -- nothing to learn from -----------------------------------------------------------------------------------------


def test_nothing_to_learn_from_is_an_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = [{"id": 1, "name": "a"}]
    for entries in ([{"category_id": 1, "iscrowd": 1}] * 2, [], [{"category_id": 1, "bbox": [200, 200, 5, 5]}]):
        (tmp_path / "annotations.json").write_text(json.dumps(content(names, *entries)))
        with pytest.raises(ValueError, match="nothing can be learned from it"):
            check_targets(tmp_path)
    crowds = [{"category_id": 1, "iscrowd": text} for text in ("0", "false", None, 0)]
    (tmp_path / "annotations.json").write_text(json.dumps(content(names, *crowds)))
    check_targets(tmp_path)
    assert "not learned from" not in caplog.text
    with pytest.raises(ValueError, match="nothing can be learned from it"):
        check_targets(tmp_path, supervises_objects=False)


def test_one_per_cent_that_is_dropped_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = [{"id": 1, "name": "a"}]
    entries = [{"category_id": 1, "bbox": [5, 5, 30, 20]}] * 198
    for dropped, told in ((1, False), (2, True)):
        caplog.clear()
        crowds = [{"category_id": 1, "iscrowd": 1, "bbox": [5, 5, 30, 20]}] * dropped
        (tmp_path / "annotations.json").write_text(json.dumps(content(names, *entries, *crowds)))
        check_targets(tmp_path)
        assert (f"{dropped} of {198 + dropped} annotations" in caplog.text) == told
    unknown = [{"category_id": 7}, {"category_id": 1, "bbox": [900, 5, 30, 20]}]
    (tmp_path / "annotations.json").write_text(json.dumps(content(names, entries[0], *unknown)))
    check_targets(tmp_path)
    assert "1 of an unknown category" in caplog.text and "1 outside of the image" in caplog.text


def check_targets(folder: Path, **fields: Any) -> None:
    records = records_of(folder, **fields)
    _check_targets(DatasetSpec(name="x", annotations="", images="", reader=read_coco, **fields), records)


# -- label images --------------------------------------------------------------------------------------------------


def test_label_images_that_are_damaged_or_bombs(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "good.png")
    data = (tmp_path / "good.png").read_bytes()
    assert read_label_map(tmp_path / "good.png").shape == (8, 8)
    for name, damaged in (("cut", data[:45]), ("none", b""), ("flip", data[:41] + b"\xff\xff" + data[43:])):
        (tmp_path / f"{name}.png").write_bytes(damaged)
        with pytest.raises(ValueError, match=name):
            read_label_map(tmp_path / f"{name}.png")
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    with pytest.raises(ValueError, match=r"bomb.*400,000,000 pixels"):
        read_label_map(tmp_path / "bomb.png")
    with pytest.raises(ValueError, match="no such file"):
        read_label_map(tmp_path / "absent.png")


# -- the cases -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "value"), [("C02", 100 / 3), ("C08", 100.0), ("C10", 100.0), ("C15", 100.0), ("C16", 100.0)]
)
def test_case_scores(case: Any, start: str, value: float) -> None:
    folder = case(start)
    (predictions,) = folder.glob("pred.json*")
    assert scores_of(folder, predictions.name)["object/box/AP"] == pytest.approx(value, abs=1e-3)


def test_case_backslash(case: Any) -> None:
    folder = case("C17")
    images = ["--images", str(folder / "images")]
    assert main(["data", "check", str(folder / "annotations.json"), *images, "--no-draw"]) == 0


def test_case_all_crowd(case: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    folder = case("C04")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PARTGLEE_DATASETS", str(folder))
    assert main(["train", "--config-file", "cfg.yaml", "--num-gpus", "0"]) == 2
    assert "nothing can be learned" in capsys.readouterr().err
    assert main(["data", "check", "annotations.json", "--no-draw"]) == 1


def test_case_photos(case: Any) -> None:
    assert [path.name for path in list_images(case("C20") / "photos")] == ["a.jpg", "b.jfif", "c.avif"]


@pytest.mark.parametrize("name", ["deep.json", "deep.jsonl", "deep_ann.json", "big_int.json"])
def test_case_damaged_text(cases: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    good, damaged = cases / "damaged", tmp_path / name
    shutil.copy(good / name, damaged)
    tries: list[list[Any]] = [["eval", "--predictions", damaged, "--annotations", good / "good_annotations.json"]]
    if damaged.suffix == ".json":
        scored = ["eval", "--predictions", good / "good_predictions.json", "--annotations", damaged, "--evaluator"]
        tries += [[*scored, "joint"], [*scored, "coco"], ["data", "check", damaged, "--no-draw"]]
    for arguments in tries:
        assert main(list(map(str, arguments))) == 2
        said = capsys.readouterr().err
        assert name in said and said.count("\n") == 1


@pytest.mark.parametrize("name", ["image_eval_label_CRASH_2.png", "image_label_map_memory_1.png"])
def test_case_label_images(cases: Path, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        read_label_map(cases / "damaged" / name)


@pytest.mark.parametrize("name", ["deep_c.yaml", "laughs_c.yaml", "self_c.yaml", "py_c2.yaml"])
def test_case_configurations(cases: Path, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        load_config(cases / "damaged" / name)


def test_case_good_files(cases: Path, tmp_path: Path) -> None:
    """The damaged files are damaged copies of these."""
    for name in ("annotations", "predictions"):
        shutil.copy(cases / "damaged" / f"good_{name}.json", tmp_path / f"{name}.json")
    assert scores_of(tmp_path, "predictions.json")["object/box/AP"] == pytest.approx(100)
    shutil.copy(cases / "damaged" / "segv_predictions.json", tmp_path / "predictions.json")
    arguments = ["--predictions", tmp_path / "predictions.json", "--annotations", tmp_path / "annotations.json"]
    assert main(["eval", *map(str, arguments)]) in (0, 2)


@pytest.mark.parametrize("name", ["a" * 256 + ".png", "folder/" + "é" * 128 + "/1.png", "b\\" + "c" * 300])
def test_names_that_no_disk_takes(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The system does not look for such a file, it refuses the question."""
    of = content([{"id": 1, "name": "car"}], {"category_id": 1}, files=(name,))
    file = tmp_path / "annotations.json"
    file.write_text(json.dumps(of))
    spec = DatasetSpec(name="long", annotations=str(file), images=str(tmp_path), reader=read_coco)
    with pytest.raises(ValueError, match="no disk takes more than 255"):
        spec.read()
    assert main(["data", "check", str(file), "--images", str(tmp_path)]) != 0
    said = capsys.readouterr()
    assert "file name that no disk takes" in said.out + said.err and max(map(len, said.out.splitlines())) < 300
    content_of = content([{"id": 1, "name": "car"}], {"category_id": 1}, files=("d" * 251 + ".png",))
    file.write_text(json.dumps(content_of))
    assert len(spec.read()) == 1
