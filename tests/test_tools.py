"""The tools that no other test runs, on something small."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import benchmark_ops
import benchmark_ops_cuda
import benchmark_photo
import benchmark_questions
import benchmark_train
import demo
import hold_out_names
import measure_names
import numpy as np
import pytest
import score_held_out
import torch
import write_triples
import yaml
from numpy.typing import NDArray
from PIL import Image

from partglee.basics.masks import decode
from partglee.config import get_cfg
from partglee.criterion.matcher import Matcher, PendingMatches
from partglee.data import ImageRecord, get_dataset
from partglee.data.catalog import register_custom
from partglee.data.expression_rules import ExpressionRules
from partglee.structures import Prediction, Vocabulary
from partglee.testing import TOY_VOCABULARY, register_toy, register_toy_referring


def test_the_operator_of_a_gpu_is_compared_with_float64() -> None:
    given = benchmark_ops.make_inputs(benchmark_ops.WORKLOADS["tiny"], 0)
    sizes, starts = benchmark_ops_cuda.levels(given)
    assert sizes.tolist() == [[32, 32], [16, 16], [8, 8]] and starts.tolist() == [0, 1024, 1280]
    assert benchmark_ops_cuda.error(benchmark_ops_cuda.yardstick, given, torch.float32) < 1e-5
    assert 1e-4 < benchmark_ops_cuda.error(benchmark_ops_cuda.yardstick, given, torch.bfloat16) < 0.1
    off = benchmark_ops_cuda.error(
        lambda value, some: 2 * benchmark_ops_cuda.yardstick(value, some), given, torch.float32
    )
    assert off == pytest.approx(1.0, abs=1e-4)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gpu_measurements_say_that_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["benchmark_ops_cuda.py"])
    with pytest.raises(SystemExit, match="2"):
        benchmark_ops_cuda.main()
    assert "no GPU was found" in capsys.readouterr().err
    script = Path(benchmark_ops_cuda.__file__).with_name("benchmark_gpu.sh")
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run(
        ["bash", script, tmp_path], capture_output=True, text=True, timeout=120, check=False, env=environment
    )
    assert done.returncode == 2 and "no GPU" in done.stderr and not any(tmp_path.iterdir())


def test_the_parts_of_a_training_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for owner, name in ((Matcher, "start"), (PendingMatches, "result")):  # wrapped by the tool; put back afterwards
        monkeypatch.setattr(owner, name, getattr(owner, name))
    file = tmp_path / "times.json"
    small = ["--size", "64x64", "--batch", "1", "--rounds", "1", "--device", "cpu", "--ops", "reference"]
    values = ["MODEL.TEXT.TABLE.WIDTH", "16", "DATALOADER.NUM_WORKERS", "0"]
    monkeypatch.setattr("sys.argv", ["benchmark_train.py", *small, "--output", str(file), *values])
    benchmark_train.main()
    (sample,) = json.loads(file.read_text())["candidates"]["reference"]
    assert list(sample) == list(benchmark_train.PARTS)
    for part in ("data", "forward", "matching", "losses", "backward", "optimiser"):
        assert sample[part] > 0, part


def test_ten_questions_are_timed_against_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["partglee", "partglee-tiny", "--repeat", "1", "--size", "48x64", "--threads", "1"]
    monkeypatch.setattr("sys.argv", ["benchmark_questions.py", *arguments])
    benchmark_questions.main()
    told = capsys.readouterr().out
    assert re.search(r"partglee-tiny +processor: one \d+ ms .*, ten \d+ ms .*, ratio \d", told)


@pytest.mark.parametrize("known", [True, False])
def test_moves_of_scores_are_told(known: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing moves among the names that queries are selected by; else what is asked for chooses the queries."""
    register_toy("toy_measured", num_images=2, size=(320, 320))
    by = "; ".join(TOY_VOCABULARY.object_names) if known else ""
    assert (
        measure_names.main(["partglee-tiny", "toy_measured", "--absent", "1", "MODEL.OBJECT_DECODER.SELECTION", by])
        == 0
    )
    told = capsys.readouterr().out
    row = re.search(r"\| all \| (\d+) \| [\d.]+ \| ([\d.]+) \|", told)
    assert row and int(row[1]) >= 2 and (float(row[2]) == 0) == known, told
    assert re.search(r"1 names that are not there: [\d.]+ rows per photo", told)


def test_what_the_demo_expects_is_asked_for() -> None:
    photos = yaml.safe_load(demo.EXPECTED.read_text())
    assert len(photos) == 8
    for entry in photos.values():
        assert ("skimage" in entry) != ("coco" in entry)
        vocabulary = Vocabulary(entry["vocabulary"])
        asked = {*vocabulary.object_names, *(f"{o}: {p}" for o, parts in entry["vocabulary"].items() for p in parts)}
        for name, x0, y0, x1, y1 in entry["expected"]:
            assert name in asked and 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1
    assert demo.find(photos["cat"]).shape == (300, 451, 3)


def test_the_demo_finds_a_row_by_its_name_its_object_and_its_place() -> None:
    prediction = Prediction(
        boxes=torch.tensor([[0.0, 0, 50, 100], [10, 0, 30, 20]]), scores=torch.tensor([0.9, 0.8]),
        labels=torch.tensor([0, 0]), names=["dog", "head"], level=torch.tensor([0, 1]),
        parent=torch.tensor([-1, 0]), image_size=(100, 200),
    )  # fmt: skip
    assert demo.is_found(prediction, "dog", 0.0, 0.0, 0.25, 1.0)
    assert demo.is_found(prediction, "dog: head", 0.05, 0.0, 0.15, 0.2)
    assert not demo.is_found(prediction, "dog", 0.5, 0.0, 0.75, 1.0)  # elsewhere
    assert not demo.is_found(prediction, "cat: head", 0.05, 0.0, 0.15, 0.2)  # of another object
    assert not demo.is_found(prediction, "head", 0.05, 0.0, 0.15, 0.2)


def test_a_photo_is_timed_against_a_rival(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    read = []

    class Rival:
        """Stands in for a model that no test has."""

        def __init__(self, file: Path) -> None:
            self.file = file

        def __call__(self, pixels: NDArray[np.uint8]) -> None:
            read.append(pixels.shape)

    monkeypatch.setattr(benchmark_photo, "YoloxNano", Rival)
    fake = SimpleNamespace(  # in place of the module there, not in it: whoever opens a model now may keep it for good
        SessionOptions=SimpleNamespace, InferenceSession=lambda *arguments, **options: None, __version__="0"
    )
    monkeypatch.setattr(benchmark_photo, "onnxruntime", fake)
    photo = tmp_path / "a.png"
    Image.new("RGB", (64, 48)).save(photo)
    assert benchmark_photo.main(["partglee-tiny", "yolox_nano.onnx", str(photo), "--repeat", "2"]) == 0
    assert read == [(48, 64, 3)] * 3  # one to warm up
    told = capsys.readouterr().out
    for clock in ("wall", "processor"):
        assert re.search(rf"{clock}: partglee \d+ ms \(.*\), YOLOX-Nano \d+ ms \(.*\), ratio \d", told)


def test_the_demo_shows_people_and_clothes_without_any_data(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PARTGLEE_DATASETS", str(tmp_path))
    given = argparse.Namespace(photos=[], vocabulary=None)
    shown = {name: (Path(photo), vocabulary) for name, photo, vocabulary, _ in demo.photos(given) if name in BUNDLED}
    assert set(shown) == BUNDLED and all(photo.is_file() for photo, _ in shown.values())
    assert "coat" in shown["photographer"][1].part_names
    told = capsys.readouterr().out
    assert (
        "car_parts_val is not under $PARTGLEE_DATASETS" in told and "cars with their parts, which are not ours" in told
    )


BUNDLED = {"officer", "photographer"}


def test_the_demo_shows_what_the_weights_are_best_at_where_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    register_toy("toy_demo", num_images=3, size=(64, 64))
    monkeypatch.setattr(demo, "BEST", {"toy_demo": "car: wheel", "coco_2017_val": "cat"})
    monkeypatch.setenv("PARTGLEE_DATASETS", str(tmp_path))
    assert len(demo.photos_of("toy_demo")) == 2 and demo.photos_of("coco_2017_val") == []
    assert "coco_2017_val is not under $PARTGLEE_DATASETS" in capsys.readouterr().out
    for vocabulary in ("car_parts_val", "clothing_val"):
        assert vocabulary in Path(demo.__file__).read_text(encoding="utf-8")


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_triples_of_a_data_set_say_what_it_says(ending: str, tmp_path: Path) -> None:
    """Written and read again: the same sentences that mean anything, each with the same pixels, at the same level."""
    register_toy_referring("toy_told", size=(48, 64), num_val=12, rules=ExpressionRules(parts=0.5))
    file = tmp_path / "triples" / f"train.{ending}"
    asked = ["--dataset", "toy_told_val", "--images", "5", "--output", str(file)]
    assert write_triples.main(asked) == 0
    cfg = get_cfg()
    cfg.DATASETS.CUSTOM = [
        {"NAME": f"told_as_{ending}", "ANNOTATIONS": str(file), "IMAGES": str(file.parent / "images")}
    ]
    (spec,) = register_custom(cfg)
    read, source = spec.read(), get_dataset("toy_told_val").read()
    assert len(read) == 5
    of_scene = {f"{record.file.name}.png": record for record in (source[row] for row in range(len(source)))}
    levels = set()
    for row in range(5):
        record, scene = read[row], of_scene[read[row].file.name]
        assert scene.pixels is not None and (np.asarray(Image.open(record.file)) == scene.pixels).all()
        told, meant = _meant(record), _meant(scene)
        assert told.keys() == meant.keys()
        for sentence, mask in meant.items():
            assert (told[sentence] == mask).all(), sentence
        levels |= {level for _, level in told}
    assert levels == {False, True}


def _meant(record: ImageRecord) -> dict[tuple[str, bool], NDArray[np.bool_]]:
    """(sentence, of parts) -> all pixels that it means, of sentences that mean any."""
    size = (record.height, record.width)
    return {
        (said.text, said.of_parts): np.any(
            [decode(thing.segmentation, *size) for thing in record.targets(said)], axis=0
        )
        for said in record.expressions
        if not said.no_target
    }


def test_triples_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--output", str(tmp_path / "a.jsonl")]
    for given, told in (
        (["--dataset", "toy_untold"], "no data set 'toy_untold'"),
        (["--dataset", "toy_untold", "--images", "0"], "--images must be at least 1"),
    ):
        with pytest.raises(SystemExit):
            write_triples.main([*given, *asked])
        assert told in capsys.readouterr().err
    register_toy("toy_silent", num_images=2, size=(48, 48))
    with pytest.raises(SystemExit):
        write_triples.main(["--dataset", "toy_silent", *asked])
    assert "no sentence" in capsys.readouterr().err and not (tmp_path / "a.jsonl").exists()


def test_held_out_names_go_to_the_other_file(tmp_path: Path) -> None:
    first = {
        "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "b.jpg"}],
        "categories": [
            {"id": 3, "name": "cat", "level": "object"},
            {"id": 4, "name": "cat:head", "level": "part"},
            {"id": 5, "name": "catfish", "level": "object"},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 3},
            {"id": 2, "image_id": 7, "category_id": 4, "parent": 1},
            {"id": 3, "image_id": 9, "category_id": 5},
        ],
    }
    second = {
        "images": [{"id": 7, "file_name": "c.jpg"}],
        "categories": [{"id": 1, "name": "catfish", "level": "object"}, {"id": 2, "name": "Cat", "level": "object"}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 1}],
    }
    sources = [tmp_path / "first.json", tmp_path / "second.json"]
    for path, document in zip(sources, (first, second), strict=True):
        path.write_text(json.dumps(document))
    files = tmp_path / "seen.json", tmp_path / "unseen.json"
    options = ["--names", "cat", "--seen", str(files[0]), "--unseen", str(files[1])]
    assert hold_out_names.main([*map(str, sources), *options]) == 0
    seen, unseen = (json.loads(path.read_text()) for path in files)
    assert [row["file_name"] for row in seen["images"]] == ["b.jpg", "c.jpg"]
    assert [row["name"] for row in seen["categories"]] == ["catfish"]
    (category,) = {row["category_id"] for row in seen["annotations"]}
    assert category == seen["categories"][0]["id"] and len(seen["annotations"]) == 2
    assert {row["image_id"] for row in seen["annotations"]} == {row["id"] for row in seen["images"]}
    assert [row["file_name"] for row in unseen["images"]] == ["a.jpg"]
    whole, part = unseen["annotations"]
    assert part["parent"] == whole["id"] and part["image_id"] == whole["image_id"] == unseen["images"][0]["id"]


def test_held_out_names_win_boxes_when_they_are_shifted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    box = [10.0, 10.0, 40.0, 40.0]
    truth = {
        "images": [{"id": 1, "height": 99, "width": 99}],
        "categories": [{"id": 5, "name": "cat"}, {"id": 6, "name": "dog"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 5, "bbox": box, "area": 1600.0}],
    }
    rows = [
        {"image_id": 1, "level": "object", "name": name, "bbox": box, "score": score}
        for name, score in (("dog", 0.4), ("Cat", 0.3))
    ]
    files = tmp_path / "found.jsonl", tmp_path / "truth.json"
    files[0].write_text(json.dumps({"results": rows}))
    files[1].write_text(json.dumps(truth))
    assert score_held_out.main([*map(str, files), "--names", "cat", "--shifts", "0", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()[-2:]
    assert lines == ["| 0 | 100.0 | nan | 0.0 | nan | 1 | 0 |", "| 1 | 100.0 | nan | 100.0 | nan | 1 | 1 |"]
    assert score_held_out.shifted(rows[:0], {5}, 1.0) == []
    moved = score_held_out.shifted([{"category_id": 5, "score": 0.3}], {5}, 0.5)[0]["score"]
    assert moved == pytest.approx(torch.tensor(0.3).logit().add(0.5).sigmoid().item())
    with pytest.raises(SystemExit):
        score_held_out.main([str(tmp_path / "none"), str(files[1]), "--names", "cat"])
